"""A client of the API: requests, and resumable uploads of local files."""
