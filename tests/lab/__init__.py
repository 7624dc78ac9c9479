"""What tests run against: S3 servers on loopback, the product's processes, proxies that inject faults."""
