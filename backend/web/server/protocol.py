"""HTTP/1.1 with bounds for every phase of a request: uvicorn's protocol has none for sizes, and one time-out.

A connection is always in one phase, which ends by a deadline, except while the application works. The limits
hold before any sign-in, so they must fit the slowest honest client: a phone on hotel Wi-Fi.
"""

from asyncio import BaseTransport, TimerHandle, Transport
from dataclasses import dataclass
from enum import Enum
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from backend.web.server.refusals import AddressTooLong, HeadersTooLarge, Refusal, RequestTimeout, response_to

SLICE_BYTES = 64 * 1024
"""The parser gets this much at a time, so that a limit is noticed soon after it is crossed."""
WEBSOCKET_PATH = b"/api/ws"
"""What ends with this, before a query, may ask for a WebSocket. Elsewhere that is ignored, as HTTP allows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of what precedes and frames a body, and the longest duration of each phase, in seconds."""

    head_bytes: int = 64 * 1024
    """Request line and headers; also trailers, and any bytes in a row that only frame a body."""
    target_bytes: int = 16 * 1024
    headers: int = 128
    pipelined_requests: int = 16
    head_seconds: float = 20
    """From the connection, or a request's first byte, to the end of its headers."""
    keep_alive_seconds: float = 75
    """Longer than the 60 s after which proxies usually close their side, so that they never lose a race."""
    small_body_bytes: int = 64 * 1024
    small_body_seconds: float = 30
    """For a whole body that is announced to be this small, like every JSON document."""
    body_seconds: float = 90
    body_bytes: int = 1024
    """Least progress of any other body in `body_seconds`. Uploads have shorter time-outs for silence."""
    linger_seconds: float = 30
    """For the rest of a body that is refused: many clients read the answer only after sending everything."""
    refusal_seconds: float = 2
    """The same after a violation of the protocol."""
    silent_seconds: float = 5
    """A body this silent makes room for another connection if there are too many."""
    flush_seconds: float = 300
    """For a client to read a response. Media comes from the store, so all responses are small."""


class Phase(Enum):
    HEAD = "head"
    BODY = "body"
    WORK = "work"
    """The application answers."""
    IDLE = "idle"
    """Between two requests."""
    LINGER = "linger"
    """The answer is complete; the rest of the request is discarded."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Subclasses may replace `limits`."""

    limits = Limits()

    phase = Phase.HEAD
    since = 0.0
    """When the phase began, or the last piece of a body arrived, by the event loop's clock."""
    _timer: TimerHandle | None = None
    _unread: TimerHandle | None = None
    """Runs while the client does not read a response."""
    _unread_since = 0.0
    _cycles: tuple[RequestResponseCycle, ...] = ()
    """Requests that may not be answered yet."""
    _ended = False
    """What arrives now is not for this parser: the request was refused, or a WebSocket follows."""
    _in_head = False
    _in_body = False
    _has_small_body = False
    _unframed_bytes = 0
    """Bytes since the parser last finished something: a head, a chunk, a piece of a body."""
    _header_bytes = 0
    _headers = 0
    _body_began = 0.0
    _body_bytes = 0
    _window_bytes = 0
    """Bytes of the body since its timer was set."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast(Transport, transport))
        self._enter(Phase.HEAD, self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        for cycle in self._cycles:  # uvicorn tells only the last one, and the others would write
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.BODY:
            self.since = self.loop.time()
        view = memoryview(data)
        for start in range(0, len(view), SLICE_BYTES):
            if self._ended:
                return
            self._feed(view[start : start + SLICE_BYTES])
        if self.phase is Phase.IDLE:
            self._enter(Phase.HEAD, self.limits.head_seconds)

    def _feed(self, data: memoryview) -> None:
        self._unframed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif rest := data[upgrade.args[0] :]:
                self._feed(rest)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal())
        else:
            if self._unframed_bytes > self.limits.head_bytes:
                self._refuse(HeadersTooLarge())

    # What the parser reports.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._header_bytes = self._headers = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.target_bytes:
            raise AddressTooLong

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are counted and dropped: nothing here reads them."""
        self._header_bytes += len(name) + len(value)
        self._headers += 1
        if self._header_bytes > self.limits.head_bytes or self._headers > self.limits.headers:
            raise HeadersTooLarge
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unframed_bytes = self._header_bytes = self._headers = 0
        if len(self.pipeline) >= self.limits.pipelined_requests:
            raise Refusal("Too many requests at once.")
        sent = dict(self.headers)
        has_body = not sent.keys().isdisjoint(_BODY_HEADERS)
        if self.parser.should_upgrade() and has_body:
            raise Refusal("A request with a body must not ask for an upgrade.")  # its body would be lost
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self._cycles = (*(one for one in self._cycles if not one.response_complete), self.cycle)
        self._in_head, self._in_body = False, True
        if not has_body:  # the end of the request follows at once
            return
        self._body_began, self._body_bytes = self.loop.time(), 0
        # A resumable upload resumes after a lost connection or its own 409, but not after a 408.
        length = None if b"tus-resumable" in sent else sent.get(b"content-length")
        self._has_small_body = length is not None and int(length) <= self.limits.small_body_bytes
        self._await_body()

    def on_body(self, body: bytes) -> None:
        self._unframed_bytes = 0
        self._window_bytes += len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        self._unframed_bytes = 0

    def on_message_complete(self) -> None:
        self._unframed_bytes = 0
        self._in_body = False
        super().on_message_complete()
        self._enter_next_phase()

    def _should_upgrade(self) -> bool:
        path = self.url.partition(b"?")[0]
        responded = self.cycle is None or self.cycle.response_complete
        return path.endswith(WEBSOCKET_PATH) and responded and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol (RFC 6455)."""
        self._ended = True
        self._enter(Phase.WORK, None)
        super().handle_websocket_upgrade()

    # What the application and the transport report.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the phase has its own deadline
        if self.transport.is_closing():  # once the response is sent
            self._enter(Phase.LINGER, self.limits.flush_seconds)
        else:
            self._enter_next_phase()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.flush_seconds, self.drop)
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # Phases and their ends.

    def _enter_next_phase(self) -> None:
        responded = self.cycle is None or self.cycle.response_complete
        if self._in_body and responded:
            self._enter(Phase.LINGER, self.limits.linger_seconds)
        elif self._in_body:
            self._await_body()
        elif not responded:
            self._enter(Phase.WORK, None)
        elif self._in_head:
            self._enter(Phase.HEAD, self.limits.head_seconds)
        else:
            self._enter(Phase.IDLE, self.limits.keep_alive_seconds)

    def _await_body(self) -> None:
        self._window_bytes = 0
        limits = self.limits
        self._enter(Phase.BODY, limits.small_body_seconds if self._has_small_body else limits.body_seconds)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        self.phase, self.since = phase, self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self.phase is Phase.HEAD and self._unframed_bytes:
            self._refuse(RequestTimeout())
        elif self.phase is Phase.BODY:
            progressed = not self._has_small_body and self._window_bytes >= self.limits.body_bytes
            if progressed or self.flow.read_paused:  # it is we who do not read
                self._await_body()
            elif self._has_small_body:
                self._refuse(RequestTimeout())
            else:
                self.drop()
        elif not self.flow.write_paused or self.transport.is_closing():
            self.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def idle_since(self) -> tuple[int, float] | None:
        """Return how this connection ranks among those that may be dropped to make room, lowest first.

        Return None if its request is being worked on.
        """
        now = self.loop.time()
        if self.phase in (Phase.HEAD, Phase.IDLE, Phase.LINGER):
            return 0, self.since
        if self._unread is not None and now - self._unread_since >= self.limits.silent_seconds:
            return 1, self._unread_since
        if self.phase is not Phase.BODY or self.flow.read_paused:
            return None
        if now - self.since >= self.limits.silent_seconds:
            return 1, self.since
        # Whole small bodies take moments. Large ones are uploads of clients that have signed in.
        return (2, self._body_began) if self._body_bytes < self.limits.small_body_bytes else None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error and close, but keep discarding for a moment so that the answer is read."""
        self._ended = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # of a later request: the responses to earlier ones come first
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.drop()
                return
        if cycle is None or not (cycle.response_complete and self._in_body):
            self.transport.write(response_to(refusal))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._enter(Phase.LINGER, self.limits.refusal_seconds)


_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
