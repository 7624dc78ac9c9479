"""The address at which browsers reach this server."""

from backend.core.settings import ApiSettings
from backend.web.bodies import AnyRequest


def public_address(request: AnyRequest, settings: ApiSettings) -> str:
    """Return it with the path below which a proxy offers us, without a final slash.

    If PUBLIC_URL is not set, it is what the request says: a proxy must pass on Host and X-Forwarded-Proto.
    """
    if settings.public_url is not None:
        return str(settings.public_url).rstrip("/")
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}{settings.root_path}"
