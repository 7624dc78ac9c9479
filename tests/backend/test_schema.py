"""The OpenAPI document says what the server does: schemathesis calls every operation with generated requests."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import SecretStr

from backend.app import create_app
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from tests.backend.conftest import TOKEN
from tests.lab.memory_store import MemoryStore


@asynccontextmanager
async def _opened(_):
    yield Buckets(raw=MemoryStore(), video=MemoryStore())


APP = create_app(ApiSettings(admin_token=SecretStr(TOKEN)), _opened)
CONFIG = schemathesis.Config.from_dict({"headers": {"Authorization": f"Bearer {TOKEN}"}})
schema = schemathesis.openapi.from_asgi("/schema/openapi.json", APP, config=CONFIG)


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_operation_does_what_its_description_says(case):
    case.call_and_validate()
