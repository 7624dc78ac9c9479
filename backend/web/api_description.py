"""Completes the OpenAPI document with what holds for all routes and Litestar cannot see."""

from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any, get_args

from litestar import HttpMethod, Litestar
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from litestar.routes import HTTPRoute
from pydantic import BaseModel

from backend.core.access.rights import HOLDER_DIGITS
from backend.core.ids import ID_PATTERN
from backend.web import tus_headers as tus

_PATH = r"^[A-Za-z0-9_./-]+$"
_PATTERNS = {
    "video_id": ID_PATTERN,
    "upload_id": ID_PATTERN,
    "person_id": ID_PATTERN,
    "image_id": ID_PATTERN,
    "session_id": f"^[0-9a-f]{{{HOLDER_DIGITS}}}$",
    "cursor": ID_PATTERN,
    "fingerprint": "^[0-9a-f]{64}$",
    "code_id": f"^[0-9a-f]{{{HOLDER_DIGITS}}}$",
    "link_id": f"^[0-9a-f]{{{HOLDER_DIGITS}}}$",
    "grant": "^[A-Za-z0-9_.-]+$",
    "path": _PATH,
    "asset": _PATH,
}
"""What parameters of these names look like."""
_TUS_VERSION = Parameter(
    name="Tus-Resumable",
    param_in="header",
    required=True,
    schema=Schema(type=OpenAPIType.STRING, enum=[tus.VERSION]),
)
_TUS_OFFSET = Parameter(
    name="Upload-Offset",
    param_in="header",
    required=True,
    schema=Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=2**53 - 1),
)
_TUS_BODY = RequestBody(
    {tus.BODY_TYPE: OpenAPIMediaType(Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))},
    required=True,
)


def complete_description(app: Litestar) -> None:
    """Open routes need no security, 204 and 304 have no body, and identifiers have a pattern."""
    app.openapi_schema.paths = dict(sorted((app.openapi_schema.paths or {}).items()))
    components = app.openapi_schema.components.schemas or {}
    operations = list(_operations(app))
    error = next(responses["401"] for *_, one in operations if "401" in (responses := one.responses or {}))
    for path, method, is_open, operation in operations:
        responses = operation.responses = operation.responses or {}
        responses["400"] = replace(error, description=HTTPStatus.BAD_REQUEST.phrase)
        if is_open:
            operation.security = []
        for status in (HTTPStatus.NO_CONTENT, HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.NOT_MODIFIED):
            response = responses.get(str(int(status)))
            if isinstance(response, OpenAPIResponse):
                response.content = None
        if method != HttpMethod.OPTIONS:
            _describe_parameters(operation)
            if path.startswith(tus.PATH):
                operation.parameters = [*(operation.parameters or []), _TUS_VERSION]
                if method == HttpMethod.PATCH:
                    operation.parameters.append(_TUS_OFFSET)
                    operation.request_body = _TUS_BODY
    for model in _body_models(app):
        _describe_body(components[model.__name__], model.model_json_schema())


def _describe_body(component: Schema, known: dict[str, Any]) -> None:
    """Add what pydantic knows about a body's fields: Litestar leaves out the limits of optional ones."""
    component.additional_properties = known.get("additionalProperties")
    for name, field in known["properties"].items():
        described = (component.properties or {})[name]
        for option in field.get("anyOf", [field]):
            for schema in (described, *(getattr(described, "one_of", None) or [])):
                if isinstance(schema, Schema) and schema.type == option.get("type"):
                    schema.minimum, schema.maximum = option.get("minimum"), option.get("maximum")
                    schema.max_length, schema.max_items = option.get("maxLength"), option.get("maxItems")


def _describe_parameters(operation: Operation) -> None:
    for parameter in operation.parameters or []:
        if isinstance(parameter, Parameter) and parameter.name in _PATTERNS:
            for schema in _strings_in(parameter.schema):
                schema.pattern = _PATTERNS[parameter.name]


def _operations(app: Litestar) -> Iterator[tuple[str, str, bool, Operation]]:
    """Yield path, method, whether it is open, and the operation."""
    paths = app.openapi_schema.paths or {}
    for route in app.routes:
        if isinstance(route, HTTPRoute) and (item := paths.get(route.path_format)) is not None:
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    operation = getattr(item, method.lower())
                    if operation is not None and handler.resolve_include_in_schema():
                        yield route.path_format, method, bool(handler.opt.get("public")), operation


def _strings_in(schema: object) -> Iterator[Schema]:
    if isinstance(schema, Schema):
        if schema.type == OpenAPIType.STRING:
            yield schema
        for option in schema.one_of or []:
            yield from _strings_in(option)


def _body_models(app: Litestar) -> set[type[BaseModel]]:
    handlers = [one for route in app.routes if isinstance(route, HTTPRoute) for one in route.route_handlers]
    types = [one.parsed_data_field.annotation for one in handlers if one.parsed_data_field]
    options = [option for one in types for option in (one, *get_args(one))]
    return {option for option in options if isinstance(option, type) and issubclass(option, BaseModel)}
