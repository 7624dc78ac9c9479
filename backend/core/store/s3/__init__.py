"""Buckets on any S3-compatible store. The only package that knows the SDK (aiobotocore) and its errors.

`open_buckets` is the way in; `ensure_buckets` and `configure_cors` prepare a new store. What each verb
obliges is said in `backend.core.store.interface`.
"""

from backend.core.store.s3.bucket import S3Store
from backend.core.store.s3.connection import S3Buckets, configure_cors, ensure_buckets, open_buckets

__all__ = ["S3Buckets", "S3Store", "configure_cors", "ensure_buckets", "open_buckets"]
