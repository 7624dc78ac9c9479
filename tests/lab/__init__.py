"""Real S3 servers on loopback, for tests: each a context manager that yields a `StoreServer`."""
