"""Buckets on any S3-compatible store. Only this package knows the SDK (aiobotocore) and its errors.

`open_buckets` opens them; `ensure_buckets` and `configure_cors` prepare a new store. The guarantees of each
operation are stated in `backend.core.store.interface`.
"""

from backend.core.store.s3.bucket import S3Store
from backend.core.store.s3.connection import S3Buckets, configure_cors, ensure_buckets, open_buckets

__all__ = ["S3Buckets", "S3Store", "configure_cors", "ensure_buckets", "open_buckets"]
