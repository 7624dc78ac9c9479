"""A proxy that injects faults between the product and a real store.

It forwards requests unchanged: signatures cover the Host header, which names the proxy, and the lab's stores
accept any host. It runs in its own thread, so that tests and the product's processes can all use it.
Request bodies are buffered; responses are streamed.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.lab.http_wire import HEAD_LIMIT_BYTES, Head, framed_body, read_head
from tests.lab.server import StoreServer
from tests.lab.wire_faults import (
    Answered,
    AnswerLost,
    Call,
    Delayed,
    Duplicated,
    Fault,
    Flipped,
    Forwarded,
    HeaderDropped,
    Hung,
    Reset,
    Rule,
    Stalled,
    Throttled,
    Truncated,
)

START_SECONDS = 10.0
FLIPPED_BIT = 0x10
ARRIVAL_SECONDS = 0.05
"""Lets the client read what was sent before the rest follows or a reset discards it."""
T = TypeVar("T")


class FaultProxy:
    """Listens on loopback while the `with` block lasts; `server` is the store reached through it."""

    def __init__(self, store: StoreServer) -> None:
        self._store = store
        upstream = urlsplit(store.endpoint_url)
        self._upstream = (upstream.hostname or "", upstream.port or 80)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Server | None = None
        self._released = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self.calls: list[Call] = []
        """Every call so far."""

    @property
    def server(self) -> StoreServer:
        store = self._store
        return StoreServer(store.name, f"http://127.0.0.1:{self._port}", store.access_key, store.secret_key)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._ready.result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(START_SECONDS)

    def inject(
        self,
        matches: Callable[[Call], bool],
        fault: Fault,
        *,
        times: int | None = 1,
        skip: int = 0,
        probability: float = 1.0,
        then: Callable[[Call], None] | None = None,
    ) -> Rule:
        """Add a rule and return it. The first rule that takes a call decides what happens to it."""
        rule = Rule(matches, fault, times, skip, probability, then)
        with self._lock:
            self._rules.append(rule)
        return rule

    @contextmanager
    def injecting(
        self, matches: Callable[[Call], bool], fault: Fault, *, probability: float = 1.0
    ) -> Iterator[Rule]:
        """Inject the fault into every matching call while the block lasts."""
        rule = self.inject(matches, fault, times=None, probability=probability)
        try:
            yield rule
        finally:
            self.forget(rule)

    def forget(self, *rules: Rule) -> None:
        """Remove these rules, or all of them if none are given."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rules and rule not in rules]

    def release(self) -> None:
        """Close all hung and stalled connections."""

        async def release() -> None:
            self._released.set()
            self._released = asyncio.Event()

        self._do(release())

    def wait_for_duplicates(self) -> None:
        """Wait until every duplicate has reached the store."""

        async def wait() -> None:
            await asyncio.gather(*self._late)

        self._do(wait())

    def refuse(self, seconds: float | None = None) -> None:
        """Reset existing connections and refuse new ones, for `seconds` or until `accept`."""

        async def refuse() -> None:
            if self._listening is not None:
                self._listening.close()
                self._listening = None
            for writer in list(self._connections):
                _reset(writer)
            if seconds is not None:
                self._do_later(self._listen_after(seconds))

        self._do(refuse())

    def accept(self) -> None:
        async def accept() -> None:
            await self._listen()

        self._do(accept())

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    def _do_later(self, action: Coroutine[Any, Any, None]) -> None:
        """Start a task that is cancelled when the proxy ends. Call this only from the proxy's loop."""
        task = asyncio.create_task(action)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _do(self, action: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(START_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # passed on to the thread that waits for the start
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        self._ready.set_result(None)
        await self._ended.wait()
        if self._listening is not None:
            self._listening.close()
        for task in self._late:
            task.cancel()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(
            self._converse, "127.0.0.1", self._port, limit=HEAD_LIMIT_BYTES
        )
        self._port = self._listening.sockets[0].getsockname()[1]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()  # one side disconnected: let the other one notice
        except asyncio.CancelledError:
            if not self._ended.is_set():
                raise
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request and return whether the connection stays open."""
        head = await read_head(reader)
        call = _call(head)
        rule = self._rule_for(call)
        fault = rule.fault if rule is not None else Forwarded()
        if rule is not None and rule.then is not None:
            await asyncio.to_thread(rule.then, call)
        if head.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if isinstance(fault, Reset) and fault.during == "request":
            await self._break_request(reader, writer, head, fault.after_bytes)
            return False
        body = bytearray()
        async for chunk in framed_body(reader, head, until_close=False):
            body += chunk
            if isinstance(fault, Throttled):
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)
        forwarded = head.without("expect", *([fault.name] if isinstance(fault, HeaderDropped) else []))
        match fault:
            case Answered():
                writer.write(_own_answer(fault, has_body=head.first_line[0] != "HEAD"))
                await writer.drain()
                return not head.closes
            case Hung():
                await self._released.wait()
                return False
            case Delayed():
                await asyncio.sleep(random.uniform(0, fault.seconds))
            case Flipped(side="request"):
                body = bytearray(_flipped(bytes(body), fault.at_byte))
            case Duplicated():
                self._do_later(self._send_again(forwarded, bytes(body), fault.after_seconds))
            case _:
                pass
        return await self._forward(writer, forwarded, bytes(body), fault) and not head.closes

    def _rule_for(self, call: Call) -> Rule | None:
        with self._lock:
            self.calls.append(call)
            return next((rule for rule in self._rules if rule.takes(call)), None)

    async def _forward(self, writer: asyncio.StreamWriter, head: Head, body: bytes, fault: Fault) -> bool:
        from_store, to_store = await asyncio.open_connection(*self._upstream, limit=HEAD_LIMIT_BYTES)
        self._connections.add(to_store)
        try:
            to_store.write(head.raw)
            to_store.write(body)
            await to_store.drain()
            answer = await read_head(from_store)
            while answer.status < 200:
                answer = await read_head(from_store)
            if isinstance(fault, AnswerLost):
                _reset(writer)
                return False
            writer.write(answer.without("connection").raw)  # that header concerns our connection to the store
            has_no_body = head.first_line[0] == "HEAD" or answer.status in {204, 304}
            if not has_no_body and not await self._relay_body(from_store, answer, writer, fault):
                return False
            await writer.drain()
            return answer.content_length is not None or answer.is_chunked or has_no_body
        finally:
            self._connections.discard(to_store)
            to_store.close()

    async def _relay_body(
        self, from_store: asyncio.StreamReader, answer: Head, writer: asyncio.StreamWriter, fault: Fault
    ) -> bool:
        """Forward the response body and return whether all of it got through."""
        limit = _limit(fault)
        passed = 0
        if isinstance(fault, Flipped):
            await writer.drain()
            await asyncio.sleep(ARRIVAL_SECONDS)
        async for chunk in framed_body(from_store, answer, until_close=True):
            if (
                isinstance(fault, Flipped)
                and fault.side == "answer"
                and 0 <= fault.at_byte - passed < len(chunk)
            ):
                chunk = _flipped(chunk, fault.at_byte - passed)
            if limit is not None and passed + len(chunk) > limit:
                writer.write(chunk[: limit - passed])
                await writer.drain()
                if isinstance(fault, Stalled):
                    await self._released.wait()
                if isinstance(fault, Reset):
                    await asyncio.sleep(ARRIVAL_SECONDS)
                    _reset(writer)
                return False
            writer.write(chunk)
            passed += len(chunk)
            await writer.drain()
            if isinstance(fault, Throttled):
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)
        return True

    async def _break_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head, after_bytes: int
    ) -> None:
        """Send the store the beginning of the request, then reset both connections."""
        _, to_store = await asyncio.open_connection(*self._upstream)
        try:
            if after_bytes:
                to_store.write(head.without("expect").raw)
                passed = 0
                async for chunk in framed_body(reader, head, until_close=False):
                    to_store.write(chunk[: after_bytes - passed])
                    passed += len(chunk)
                    if passed >= after_bytes:
                        break
                await to_store.drain()
        finally:
            _reset(to_store)
            _reset(writer)

    async def _send_again(self, head: Head, body: bytes, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        from_store, to_store = await asyncio.open_connection(*self._upstream, limit=HEAD_LIMIT_BYTES)
        try:
            to_store.write(head.raw + body)
            await to_store.drain()
            with suppress(asyncio.IncompleteReadError):
                await read_head(from_store)
        finally:
            to_store.close()


@contextmanager
def refusing(proxy: FaultProxy) -> Iterator[None]:
    """Refuse connections while the block lasts."""
    proxy.refuse()
    try:
        yield
    finally:
        proxy.accept()


def _call(head: Head) -> Call:
    method, target, _ = head.first_line
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Call(_operation(method, key, query), bucket, key, query, head.headers, time.monotonic())


def _operation(method: str, key: str, query: dict[str, str]) -> str:
    match method:
        case "PUT" if "partNumber" in query:
            return "UploadPart"
        case "POST" if "uploads" in query:
            return "CreateMultipartUpload"
        case "POST" if "uploadId" in query:
            return "CompleteMultipartUpload"
        case "POST" if "delete" in query:
            return "DeleteObjects"
        case "DELETE" if "uploadId" in query:
            return "AbortMultipartUpload"
        case "GET" if "uploadId" in query:
            return "ListParts"
        case "GET" if "uploads" in query:
            return "ListMultipartUploads"
        case "GET" if not key:
            return "ListObjectsV2"
        case _:
            return f"{method.title()}{'Object' if key else 'Bucket'}"


def _limit(fault: Fault) -> int | None:
    """Return how many bytes of a response body get through, None for all."""
    match fault:
        case Truncated() | Stalled() | Reset(during="answer"):
            return fault.after_bytes
        case _:
            return None


def _flipped(chunk: bytes, at_byte: int) -> bytes:
    if not 0 <= at_byte < len(chunk):
        return chunk
    return chunk[:at_byte] + bytes([chunk[at_byte] ^ FLIPPED_BIT]) + chunk[at_byte + 1 :]


def _own_answer(fault: Answered, *, has_body: bool) -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code></Error>'.encode()
    head = (
        f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
