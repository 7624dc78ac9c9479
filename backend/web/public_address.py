"""The address at which browsers reach this server."""

from backend.core.settings import ApiSettings
from backend.web.bodies import AnyRequest


def public_address(request: AnyRequest, settings: ApiSettings) -> str:
    """Return what the request says, with the path below which a proxy offers us, without a final slash.

    A proxy must pass on Host and X-Forwarded-Proto.
    """
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}{settings.root_path}"
