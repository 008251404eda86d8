"""An index that follows folders of video files."""
