"""The OpenAPI document says what the server does: schemathesis calls every operation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from backend.app import create_app
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from tests.backend.conftest import TOKEN
from tests.lab.memory_store import MemoryStore

pytestmark = pytest.mark.heavy

schemathesis.serializer.alias("application/x-subrip", "text/plain")
for kind in ("application/offset+octet-stream", "image/avif", "image/jpeg", "image/png", "image/webp"):
    schemathesis.serializer.alias(kind, "application/octet-stream")


@asynccontextmanager
async def _opened(_: ApiSettings) -> AsyncIterator[Buckets]:
    yield Buckets(raw=MemoryStore(), video=MemoryStore())


APP = create_app(ApiSettings(admin_token=SecretStr(TOKEN), convert_wait_seconds=0), _opened)
CONFIG = schemathesis.Config.from_dict(
    {
        "headers": {"Authorization": f"Bearer {TOKEN}"},
        "checks": {
            "negative_data_rejection": {"expected-statuses": ["4xx"]},
            "missing_required_header": {"expected-statuses": ["4xx"]},
        },
        # What their parameters must be, beyond what JSON Schema can say.
        "operations": [
            # What oEmbed has for formats that are not offered is 501 (section 2.3.3).
            {"include-name": "GET /oembed", "checks": {"not_a_server_error": {"enabled": False}}},
            *(
                {"include-name": name, "checks": {"positive_data_acceptance": {"enabled": False}}}
                for name in (
                    *("POST /api/videos", "POST /api/upload", "POST /upload/multipart"),  # video or audio
                    *("POST /api/convert", "POST /convert/{name}"),  # the same
                    *("POST /upload/remote", "POST /download/yt-dlp"),  # an address to fetch from
                    "POST /api/access-codes",  # media that there is, and a time to come
                    "GET /api/events",  # the number of an event that there is
                    "POST /api/videos/{video_id}/transcodes",  # at least one codec and rung, if any
                    "POST /api/uploads",  # a length, or that it is deferred
                    "OPTIONS /api/uploads/{upload_id}",
                    *(
                        "PATCH /api/videos/{video_id}",
                        "PATCH /api/images/{image_id}",
                    ),  # a title that can be seen
                    "POST /api/upload-links",  # the same, and a time to come
                    "POST /api/images",  # an image
                    *(
                        "POST /api/people",
                        "PATCH /api/people/{person_id}",
                    ),  # a name of which something is visible
                    "POST /api/videos/{video_id}/captions/{language}",
                    "DELETE /api/videos/{video_id}/captions/{language}",
                )
            ),
        ],
    }
)
schema = schemathesis.openapi.from_asgi("/schema/openapi.json", APP, config=CONFIG)


@schema.parametrize()
@settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_every_operation_does_what_its_description_says(case: schemathesis.Case) -> None:
    case.call_and_validate()
