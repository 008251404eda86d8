"""Search of an index over HTTP, and the page that uses it."""
