"""Pictures of training runs and of search results."""
