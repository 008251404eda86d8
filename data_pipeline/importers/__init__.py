"""Other people's files: annotations and features, into the official layout."""
