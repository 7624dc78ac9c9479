"""The command line itself: its version, lost output, and addresses of the wrong scheme."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import HttpUrl, SecretStr

from backend.core.settings import ClientSettings
from infra.local.certificate import make_certificate
from tests.vodbucket.conftest import COMMAND_SECONDS, Installation
from tests.vodbucket.forked import run_forked
from vodbucket.client.api import open_api
from vodbucket.client.errors import RequestRejected, ServerUnavailable

FULL_DISK = Path("/dev/full")


async def test_prints_its_version(on_moto: Installation) -> None:
    done = await on_moto.vodbucket("--version")
    assert (done.status, done.out) == (0, f"vodbucket {version('vodbucket')}\n")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--version", "--help"])
async def test_output_to_a_full_disk_fails_with_one_sentence(
    command: str, on_moto: Installation, tmp_path: Path
) -> None:
    errors = tmp_path / "err"
    status = await run_forked((command,), on_moto.environment, FULL_DISK, errors, COMMAND_SECONDS)
    assert status == 1
    assert errors.read_text() == "vodbucket: Cannot write the output: No space left on device.\n"


async def test_https_to_a_plain_http_server_names_the_scheme() -> None:
    async with _listening(None) as port:
        with pytest.raises(ServerUnavailable, match=r"does not speak TLS.*http://"):
            await _request(f"https://127.0.0.1:{port}")


async def test_http_to_a_tls_server_names_the_scheme() -> None:
    alert = b"\x15\x03\x01\x00\x02\x02\x46"  # what OpenSSL answers: protocol_version (RFC 8446 section 6)
    async with _listening(None, alert) as port:
        with pytest.raises(ServerUnavailable, match=r"does not speak HTTP.*https://"):
            await _request(f"http://127.0.0.1:{port}")


async def test_an_untrusted_certificate_is_named(tmp_path: Path) -> None:
    async with _listening(_tls(tmp_path)) as port:
        with pytest.raises(ServerUnavailable, match="certificate is not trusted"):
            await _request(f"https://127.0.0.1:{port}")


async def test_another_server_than_ours_names_the_variable() -> None:
    async with _listening(None, b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n") as port:
        with pytest.raises(RequestRejected, match=r"responded 501 Not Implemented\. Is VODBUCKET_URL"):
            await _request(f"http://127.0.0.1:{port}")


async def _request(url: str) -> None:
    settings = ClientSettings(vodbucket_url=HttpUrl(url), admin_token=SecretStr("x" * 16))
    async with open_api(settings) as api:
        await api.videos(1)


def _tls(directory: Path) -> ssl.SSLContext:
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    make_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def _listening(
    tls: ssl.SSLContext | None, response: bytes = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
) -> AsyncIterator[int]:
    """Listen on loopback, and give every request this response."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
