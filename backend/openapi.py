"""`python -m backend.openapi`: print the OpenAPI document. The site's types are generated from it."""

import json
import sys

from pydantic import SecretStr

from backend.app import create_app
from backend.core.settings import ApiSettings
from backend.core.store.s3 import open_buckets


def describe() -> str:
    """Return the OpenAPI document as JSON. The same code always gives the same text."""
    settings = ApiSettings.model_construct(root_path="", admin_token=SecretStr("unused"), cors_origins=())
    schema = create_app(settings, open_buckets).openapi_schema.to_schema()
    return json.dumps(schema, indent=2, sort_keys=True)


if __name__ == "__main__":
    sys.stdout.write(describe() + "\n")
