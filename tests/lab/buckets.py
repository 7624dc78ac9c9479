"""Fresh buckets on a lab server, opened as the product opens them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import HttpUrl, SecretStr

from backend.core.settings import StoreSettings
from backend.core.store.s3 import S3Buckets, ensure_buckets, open_buckets
from tests.lab.server import StoreServer


def store_settings(server: StoreServer) -> StoreSettings:
    """Return settings for a pair of buckets that do not exist yet."""
    name = uuid.uuid4().hex
    return StoreSettings(
        s3_endpoint_url=HttpUrl(server.endpoint_url),
        s3_public_endpoint_url=None,
        s3_raw_bucket=f"raw-{name}",
        s3_video_bucket=f"video-{name}",
        aws_region="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=SecretStr(server.secret_key),
        aws_session_token=None,
    )


@asynccontextmanager
async def fresh_buckets(server: StoreServer) -> AsyncIterator[S3Buckets]:
    async with open_buckets(store_settings(server)) as buckets:
        await ensure_buckets(buckets)
        yield buckets
