"""Bodies and queries, read strictly: Litestar reports odd JSON and lost clients as crashes."""

import re
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException, SerializationException
from litestar.serialization import decode_json

from backend.core.errors import BadRequest

INTEGERS = ("limit", "crf", "cpu_used", "maxwidth", "maxheight")
"""Query parameters that are whole numbers."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


class InvalidRequest(BadRequest):
    """The request is invalid."""

    code = "invalid_request"


class StrictRequest(Request[Any, Any, State]):
    """What handlers receive as their request."""

    async def body(self) -> bytes:
        """Raises: BadRequest: the client disconnected."""
        try:
            return await super().body()
        except InternalServerException:
            raise BadRequest("The body ended early.") from None

    async def json(self) -> Any:
        """Raises: BadRequest."""
        try:
            return decode_json((await self.body()).decode() or "null")
        except UnicodeDecodeError:
            raise BadRequest("The body is not UTF-8.") from None
        except (SerializationException, RecursionError):
            raise BadRequest("The body is not valid JSON.") from None


def only_whole(value: object) -> object:
    """Refuse booleans and text, which pydantic would convert. Raises: ValueError."""
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")
    return value


async def check_integers(request: Request[Any, Any, State]) -> None:
    """Raises: InvalidRequest: a number in the query is not written as a whole number, or is there twice."""
    for name in INTEGERS:
        values = request.query_params.getall(name, [])
        if len(values) > 1 or not all(map(_INTEGER.fullmatch, values)):
            raise InvalidRequest(f"{name}: must be one whole number")
