"""An index over HTTP: a JSON API and a page."""
