"""An S3-compatible store: the interface, retries, ranged reads and conformance probes."""
