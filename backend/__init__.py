"""The API: an HTTP server over the core."""
