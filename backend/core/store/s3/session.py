"""The SDK's HTTP session, for which every answer has its time: none is waited for without end."""

import asyncio
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ReadTimeoutError

SLOWEST_BYTES_PER_SECOND = 32 * 1024
"""A store that takes bodies more slowly is as good as away."""
FIRST_ERROR_STATUS = 300


class PunctualSession(AIOHTTPSession):
    """Ends every request that has not been answered in time, by the time-outs of the SDK's configuration.

    Those count the silence between two bytes, and aiohttp forgets them when an answer's chunked framing is
    broken after its head was read: it closes the connection and leaves the reader of the body waiting for
    ever (seen with 3.14). Streamed bodies are read after `send`: who reads them limits the time of each read.
    """

    # The published types know neither what the SDK passes nor what it gets: hence Any.

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._connect_seconds, self._read_seconds = settings["timeout"]

    async def send(self, request: Any) -> Any:
        try:
            async with asyncio.timeout(self._seconds_for(request)):
                response: Any = await super().send(request)
                if response.status_code >= FIRST_ERROR_STATUS:
                    await response.content  # the SDK reads errors at once, streamed or not
                return response
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error

    def _seconds_for(self, request: Any) -> float:
        silence = request.context.get("read_timeout", self._read_seconds)
        body_bytes = int(request.headers.get("Content-Length") or 0)
        return float(self._connect_seconds + silence + body_bytes / SLOWEST_BYTES_PER_SECOND)
