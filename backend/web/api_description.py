"""Completes the OpenAPI document with what holds for all routes and Litestar cannot see."""

from collections.abc import Iterator
from http import HTTPStatus

from litestar import Litestar
from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.routes import HTTPRoute

from backend.core.ids import ID_PATTERN

_PATTERNS = {
    "video_id": ID_PATTERN,
    "upload_id": ID_PATTERN,
    "fingerprint": "^[0-9a-f]{64}$",
    "cursor": ID_PATTERN,
}
"""What parameters of these names look like."""


def complete_description(app: Litestar) -> None:
    """Open routes need no security, 204 and 304 have no body, and identifiers have a pattern."""
    for operation, is_open in _operations(app):
        if is_open:
            operation.security = []
        for status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            response = (operation.responses or {}).get(str(int(status)))
            if response is not None:
                response.content = None  # type: ignore[union-attr]  # litestar makes no references here
        for parameter in operation.parameters or []:
            if isinstance(parameter, Parameter) and parameter.name in _PATTERNS:
                for schema in _strings_in(parameter.schema):
                    schema.pattern = _PATTERNS[parameter.name]


def _operations(app: Litestar) -> Iterator[tuple[Operation, bool]]:
    paths = app.openapi_schema.paths or {}
    for route in app.routes:
        if isinstance(route, HTTPRoute) and (item := paths.get(route.path_format)) is not None:
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    operation = getattr(item, method.lower())
                    if operation is not None and handler.resolve_include_in_schema():
                        yield operation, bool(handler.opt.get("public"))


def _strings_in(schema: object) -> Iterator[Schema]:
    if isinstance(schema, Schema):
        if schema.type == "string":
            yield schema
        for option in schema.one_of or []:
            yield from _strings_in(option)
