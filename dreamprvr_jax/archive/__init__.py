"""People's own videos: features, an index, search, the server."""
