"""The SDK's HTTP session, with a time limit for every response."""

import asyncio
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ReadTimeoutError

SLOWEST_BYTES_PER_SECOND = 32 * 1024
"""A store that accepts bodies more slowly counts as unavailable."""
FIRST_ERROR_STATUS = 300


class PunctualSession(AIOHTTPSession):
    """Ends every request that is not answered in time, based on the timeouts in the SDK's configuration.

    Those limit the silence between two bytes. aiohttp ignores them if the chunked framing of a response
    breaks after its headers: it closes the connection and leaves the reader of the body waiting forever (seen
    with 3.14). Streamed bodies are read after `send`, so their readers must limit the time of each read.
    """

    # Any, because the published types cover neither the arguments nor the return value.

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._connect_seconds, self._read_seconds = settings["timeout"]

    async def send(self, request: Any) -> Any:
        try:
            async with asyncio.timeout(self._seconds_for(request)):
                response: Any = await super().send(request)
                if response.status_code >= FIRST_ERROR_STATUS:
                    # The SDK reads error bodies immediately, even for streamed requests.
                    await response.content
                return response
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error

    def _seconds_for(self, request: Any) -> float:
        silence = request.context.get("read_timeout", self._read_seconds)
        body_bytes = int(request.headers.get("Content-Length") or 0)
        return float(self._connect_seconds + silence + body_bytes / SLOWEST_BYTES_PER_SECOND)
