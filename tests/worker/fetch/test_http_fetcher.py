"""Files over HTTP from a server that can break each promise: whole and of one version, or a clear failure."""

import random
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, SourceRejected
from infra.local.certificate import make_certificate
from tests.worker.fetch.file_server import MAX_BYTES, FileServer, KeptSink, serving, spec
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.interface import Fetched
from worker.fetch.resuming import TRIES

FILM = random.Random(1).randbytes(300_000)
VERSION = f'{len(FILM)} "one"'
OTHER = random.Random(2).randbytes(300_000)


async def fetch(server: FileServer, sink: KeptSink, *, stall_seconds: float = 20) -> Fetched:
    fetcher = HttpFetcher(Guard(allow_private=True), stall_seconds=stall_seconds, pauses=Backoff(0, 0))
    return await fetcher.fetch(spec(server.url), sink)


@pytest.mark.parametrize("framing", ["length", "chunked", "close", "gzip"])
async def test_file_arrives_whole(framing: str) -> None:
    sink = KeptSink()

    async with serving(FileServer(FILM, framing=framing)) as server:
        fetched = await fetch(server, sink)

    assert sink.stored == FILM
    assert sink.total_bytes == (len(FILM) if framing == "length" else None)
    assert (fetched.filename, fetched.content_type) == ("a film.mp4", "video/mp4")


async def test_name_that_the_server_gives_is_taken() -> None:
    given = (
        "Content-Type: video/webm",
        "Content-Disposition: attachment; filename*=UTF-8''d%C3%A9j%C3%A0.webm",
    )

    async with serving(FileServer(FILM, headers=given)) as server:
        fetched = await fetch(server, KeptSink())

    assert fetched.filename == "déjà.webm"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_broken_connections_are_resumed_where_they_broke(framing: str) -> None:
    sink = KeptSink()

    async with serving(FileServer(FILM, framing=framing, dies_after=[100_000, 50_000, 0, 1])) as server:
        await fetch(server, sink)

    assert sink.stored == FILM
    assert sink.begun == 1
    assert server.ranges_asked == [None, "100000", "150000", "150000", "150001"]


@pytest.mark.parametrize("server", [FileServer(FILM, ranges=False), FileServer(FILM, etag=None)])
async def test_file_is_fetched_from_its_beginning_where_it_cannot_be_resumed(server: FileServer) -> None:
    sink = KeptSink()

    async with serving(replace(server, dies_after=[100_000, 200_000])) as server:
        await fetch(server, sink)

    assert sink.stored == FILM
    assert sink.begun == 3


async def test_weak_validator_does_not_join_bytes() -> None:
    sink = KeptSink()

    async with serving(FileServer(FILM, etag='W/"one"', dies_after=[100_000])) as server:
        await fetch(server, sink)

    assert sink.stored == FILM
    assert server.ranges_asked == [None, None]


async def test_two_versions_of_a_file_are_never_joined() -> None:
    class Replaced(FileServer):
        async def _send(self, *arguments: object, **options: object) -> None:
            await super()._send(*arguments, **options)  # type: ignore[arg-type]
            self.body, self.etag = OTHER, '"two"'

    sink = KeptSink()

    async with serving(Replaced(FILM, dies_after=[100_000])) as server:
        await fetch(server, sink)

    assert sink.stored == OTHER
    assert server.ranges_asked == [None, "100000"]


async def test_rest_of_another_version_is_not_taken_whatever_the_condition_said() -> None:
    """A server that ignores If-Range."""

    class Careless(FileServer):
        async def _send(self, *arguments: object, **options: object) -> None:
            await super()._send(*arguments, **options)  # type: ignore[arg-type]
            self.body = OTHER
            self.headers = ("Content-Type: video/mp4", 'ETag: "two"')

    sink = KeptSink()

    async with serving(Careless(FILM, dies_after=[100_000])) as server:
        await fetch(server, sink)

    assert sink.stored == OTHER
    assert server.ranges_asked == [None, "100000", None]


async def test_next_attempt_continues_after_what_is_stored() -> None:
    sink = KeptSink(bytearray(FILM[:200_000]), VERSION)

    async with serving(FileServer(FILM)) as server:
        await fetch(server, sink)

    assert sink.stored == FILM
    assert (sink.begun, server.ranges_asked) == (0, ["200000"])


async def test_next_attempt_finds_that_all_is_stored() -> None:
    sink = KeptSink(bytearray(FILM), VERSION)

    async with serving(FileServer(FILM)) as server:
        await fetch(server, sink)

    assert sink.stored == FILM
    assert sink.begun == 0


async def test_next_attempt_does_not_trust_more_bytes_than_the_file_has() -> None:
    sink = KeptSink(bytearray(FILM + b"more"), VERSION)

    async with serving(FileServer(FILM)) as server:
        await fetch(server, sink)

    assert sink.stored == FILM


@pytest.mark.parametrize("ranges", [True, False])
async def test_file_shorter_than_declared_is_not_taken_for_whole(ranges: bool) -> None:
    async with serving(FileServer(FILM, declared_bytes=len(FILM) + 1, ranges=ranges)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code in {"fetch_broken", "fetch_changed"}


async def test_file_longer_than_declared_is_not_taken_for_whole() -> None:
    async with serving(FileServer(FILM, declared_bytes=1000)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code == "fetch_broken"


async def test_server_that_dies_each_time_at_the_same_byte_is_given_up() -> None:
    async with serving(FileServer(FILM, ranges=False, dies_after=[1000] * 20)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code == "fetch_broken"
    assert len(server.ranges_asked) == TRIES


@pytest.mark.parametrize("sent", [0, 1000])
async def test_silent_server_is_a_failure(sent: int) -> None:
    async with serving(FileServer(FILM, ranges=False, hangs_after=sent)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await fetch(server, KeptSink(), stall_seconds=0.02)

    assert failed.value.failure_code == "fetch_timeout"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((404, "fetch_not_found"), (410, "fetch_not_found"), (401, "fetch_denied"), (403, "fetch_denied")),
        *((400, "fetch_refused"), (206, "fetch_refused"), (416, "fetch_refused")),
    ],
)
async def test_refusal_of_the_server_is_final(status: int, code: str) -> None:
    async with serving(FileServer(FILM, status=status)) as server:
        with pytest.raises(SourceRejected, match=str(status)) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code == code
    assert len(server.ranges_asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_trouble_of_the_server_may_pass(status: int) -> None:
    async with serving(FileServer(FILM, status=status)) as server:
        with pytest.raises(AttemptFailed, match=str(status)) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code == "fetch_failed"
    assert len(server.ranges_asked) == TRIES


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (FileServer(b"<html>", headers=("Content-Type: text/html; charset=utf-8",)), "fetch_web_page"),
        (FileServer(b"\n<!DOCTYPE html>"), "fetch_web_page"),
        (FileServer(b""), "empty_upload"),
        (FileServer(FILM, declared_bytes=MAX_BYTES + 1), "fetch_too_large"),
        (FileServer(FILM, status=302, headers=("Location: /again",)), "fetch_refused"),
        (FileServer(FILM, status=302, headers=("Location: ftp://public.example/",)), "invalid_address"),
        (FileServer(FILM, status=302, headers=("Location: http://[",)), "invalid_address"),
    ],
)
async def test_what_is_no_file_is_refused(server: FileServer, code: str) -> None:
    async with serving(replace(server)) as server:
        with pytest.raises(SourceRejected) as failed:
            await fetch(server, KeptSink())

    assert failed.value.failure_code == code


async def test_refused_connection_is_a_failure_that_may_pass() -> None:
    async with serving(FileServer(FILM)) as server:
        pass

    with pytest.raises(AttemptFailed) as failed:
        await fetch(server, KeptSink())

    assert failed.value.failure_code == "fetch_unreachable"


async def test_name_that_does_not_exist_is_a_failure_that_may_pass() -> None:
    async def nothing(host: str, port: int) -> list[object]:
        raise OSError(-2, "Name or service not known")

    fetcher = HttpFetcher(Guard(allow_private=True, lookup=nothing), pauses=Backoff(0, 0))  # type: ignore[arg-type]

    with pytest.raises(AttemptFailed, match="no server of this name"):
        await fetcher.fetch(spec("http://nowhere.example/"), KeptSink())


async def test_https_needs_a_valid_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = FileServer(FILM)

    async with serving(server, context=context):
        with pytest.raises(AttemptFailed, match="certificate"):
            await fetch(server, KeptSink())

    assert server.ranges_asked == []
