"""Assembles the application from routes, guards, error responses and headers. Reads no environment."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import MutableScopeHeaders, ResponseHeader
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.router import Router
from litestar.types import Message, Scope

from backend.core.access.signing_keys import SigningKeys
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.routes import (
    access_codes,
    captions,
    conversions,
    events,
    following,
    health,
    images,
    inbox,
    jobs,
    media,
    openid,
    pages,
    people,
    playback_links,
    remote_uploads,
    resumable_uploads,
    resumptions,
    session,
    static_site,
    upload_links,
    uploads,
    videos,
)
from backend.routes.services import Services, provide_services
from backend.web import tus_headers as tus
from backend.web.access_codes import provide_access_key
from backend.web.api_description import complete_description
from backend.web.auth import COOKIE, PUBLIC, provide_principal, require_role
from backend.web.error_responses import HANDLERS
from backend.web.http_rules import HttpRules
from backend.web.strict_requests import StrictRequest, check_integers
from backend.web.tus_middleware import TusMiddleware

MAX_JSON_BYTES = 64 * 1024
"""Uploads enforce their own limits; every other request body is a small JSON document."""

OpenBuckets = Callable[[ApiSettings], AbstractAsyncContextManager[Buckets]]

_ROUTES = (
    health,
    uploads,
    remote_uploads,
    inbox,
    resumable_uploads,
    resumptions,
    upload_links,
    videos,
    captions,
    conversions,
    jobs,
    events,
    following,
    playback_links,
    media,
    images,
    openid,
    session,
    people,
    access_codes,
    pages,
    static_site,
)


def create_app(
    settings: ApiSettings, open_buckets: OpenBuckets, clock: Callable[[], float] = time.time
) -> Litestar:
    """Return the ASGI application. It opens the buckets when it starts and closes them when it stops.

    `clock` returns Unix seconds.
    """

    @asynccontextmanager
    async def serve(app: Litestar) -> AsyncIterator[None]:
        async with open_buckets(settings) as buckets, SigningKeys.kept_fresh(buckets.video) as signing_keys:
            services = Services.build(settings, buckets, signing_keys, clock)
            app.state.services = services
            async with services.inbox.looking():
                yield

    app = Litestar(
        route_handlers=[handler for module in _ROUTES for handler in module.HANDLERS],
        guards=[require_role],
        dependencies={
            "services": Provide(provide_services),
            "principal": Provide(provide_principal),
            "access_key": Provide(provide_access_key),
        },
        exception_handlers=HANDLERS,
        lifespan=[serve],
        before_send=[_add_tus_headers],
        request_max_body_size=MAX_JSON_BYTES,
        request_class=StrictRequest,
        before_request=check_integers,
        cors_config=_cors(settings),
        response_headers=[
            ResponseHeader(name="cache-control", value="no-store"),
            ResponseHeader(name="x-content-type-options", value="nosniff"),
            ResponseHeader(name="referrer-policy", value="no-referrer"),
        ],
        openapi_config=_openapi(settings.root_path),
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
    complete_description(app)
    # Not as Litestar middleware, which runs after CORS and routing.
    app.asgi_handler = media.PlayFirst(TusMiddleware(app.asgi_handler), has_cors=bool(settings.cors_origins))
    app.asgi_handler = HttpRules(app.asgi_handler, app, settings.root_path)
    return app


async def _add_tus_headers(message: Message, scope: Scope) -> None:
    """Add the protocol version, and the headers that the route set aside, to every tus response."""
    if message["type"] == "http.response.start" and scope["path"].startswith(tus.PATH):
        headers = MutableScopeHeaders.from_message(message)
        headers["tus-resumable"] = tus.VERSION
        headers.update(scope["state"].get(tus.PENDING_HEADERS, {}))


def _cors(settings: ApiSettings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["*"],
        allow_headers=["*"],  # trackers add their own; these origins are trusted with all that we read
        allow_credentials="*" not in settings.cors_origins,
        expose_headers=["Location", "ETag", "Content-Length", "Content-Range", *tus.RESPONSE_HEADERS],
    )


def _openapi(root_path: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="vodbucket",
        version="1",
        servers=[Server(url=root_path or "/")],
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path=["/openapi.json", "/"])],
        openapi_router=Router(path="/schema", route_handlers=[], include_in_schema=False, opt=PUBLIC),
        security=[{"token": []}, {"session": []}],
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer"),
                "session": SecurityScheme(type="apiKey", name=COOKIE, security_scheme_in="cookie"),
            }
        ),
    )
