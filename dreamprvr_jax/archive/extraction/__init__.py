"""Features of videos and captions."""
