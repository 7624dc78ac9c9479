"""An S3-compatible store: its interface, retries, ranged reads and conformance probes."""
