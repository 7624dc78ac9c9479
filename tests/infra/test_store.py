"""The embedded store: stored data survives kill -9, and no access is possible without its keys."""

import hmac
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backend.core.errors import StoreDenied
from backend.core.settings import StoreSettings
from backend.core.store.interface import MIN_PART_BYTES, ObjectHeaders, PresignedGet
from backend.core.store.s3 import ensure_buckets, open_buckets
from infra.local import store as embedded_store
from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.store import EmbeddedStore, answers, choose_store, remove_sockets, store_command
from tests.infra.checkout import require_embedded_store
from tests.lab.missing import missing

SECRET = b"a private video"
Shared = tuple[DataDirectory, EmbeddedStore, subprocess.Popen[bytes]]
LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


OPEN_ROUTES = {"/", "/ui/index.html", "/status", "/healthz", "/cluster/status"}
"""These reveal volumes and versions, but no objects."""
ROUTES = {
    *OPEN_ROUTES,
    *(
        "/buckets/",
        "/buckets/vodbucket-video/private.mp4",
        "/vodbucket-video/private.mp4",
        "/vodbucket-video/",
    ),
    *("/dir/assign", "/dir/status", "/dir/lookup?volumeId=1", "/submit", "/vol/status", "/vol/vacuum"),
    *("/col/delete?collection=vodbucket-video", "/.tus/", "/stats/disk", "/debug/pprof/", "/metrics"),
}
"""What an attacker who knows SeaweedFS would try."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_embedded_store()


@contextmanager
def _running(data: DataDirectory) -> Iterator[tuple[EmbeddedStore, subprocess.Popen[bytes]]]:
    """Run the store while the block lasts, then kill it with SIGKILL."""
    store = choose_store(data)
    command = store_command(store, data)
    process = subprocess.Popen(command.argv, env=dict(command.env), cwd=command.directory)
    try:
        deadline = time.monotonic() + 60
        while not all(answers(url) for url in store.health_urls):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield store, process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        remove_sockets(store.ports)


def _status(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> int:
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _settings(store: EmbeddedStore) -> StoreSettings:
    return StoreSettings.model_validate(
        {name.lower(): value for name, value in store.client_settings().items()}
    )


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(tmp_path / "data")
    with directory.lock():
        yield directory


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A store that no test stops, with its data and its process: to start one takes seconds."""
    directory = DataDirectory(tmp_path_factory.mktemp("shared"))
    with directory.lock(), _running(directory) as (store, process):
        yield directory, store, process


async def test_objects_and_open_uploads_survive_a_kill_and_other_ports(data: DataDirectory) -> None:
    part = os.urandom(MIN_PART_BYTES)
    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            upload = await buckets.raw.open_upload("uploads/a.orig", ObjectHeaders("video/mp4"))
            parts = [await buckets.raw.put_part("uploads/a.orig", upload, number, part) for number in (1, 2)]
            await buckets.raw.complete_upload("uploads/a.orig", upload, parts)
            await buckets.raw.put("queue/b", b"job")
            await buckets.raw.delete("queue/b")
            before = await buckets.raw.head("uploads/a.orig")
            open_upload = await buckets.raw.open_upload("uploads/b.orig")
            open_part = await buckets.raw.put_part("uploads/b.orig", open_upload, 1, part)
            await buckets.raw.put("queue/a", b"job")

    with _running(data) as (again, _):
        assert again == store
        async with open_buckets(_settings(again)) as buckets:
            assert [info.key async for info in buckets.raw.list_all("")] == ["queue/a", "uploads/a.orig"]
            assert (await buckets.raw.get("queue/a")).body == b"job"
            assert (await buckets.raw.get("uploads/a.orig")).body == part * 2
            assert await buckets.raw.head("uploads/a.orig") == before
            assert not await buckets.raw.create("queue/a", b"another")
            assert await buckets.raw.list_parts("uploads/b.orig", open_upload) == [open_part]
            await buckets.raw.complete_upload("uploads/b.orig", open_upload, [open_part])
            assert (await buckets.raw.get("uploads/b.orig")).body == part
    (data.store / "ports").unlink()

    with _running(data) as (moved, _):
        assert set(moved.ports.values()).isdisjoint(store.ports.values())
        async with open_buckets(_settings(moved)) as buckets:
            assert (await buckets.raw.get("queue/a")).body == b"job"
            await buckets.raw.put("queue/a", b"another")
            assert (await buckets.raw.get("queue/a")).body == b"another"


def test_keys_are_random_and_only_their_owner_can_read_them(data: DataDirectory, tmp_path: Path) -> None:
    other = DataDirectory(tmp_path / "other")
    with other.lock():
        assert choose_store(data).secret == choose_store(data).secret != choose_store(other).secret
    store_command(choose_store(data), data)

    private = [data.store / "key", *(data.store / "weed").glob("security.toml*")]
    private += (data.store / "weed").glob("*.key")
    assert len(private) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE((data.store / "weed").stat().st_mode) == 0o700


async def test_unsigned_and_wrongly_signed_requests_are_refused(shared: Shared) -> None:
    _, store, _ = shared
    async with open_buckets(_settings(store)) as buckets:
        await ensure_buckets(buckets)
        await buckets.video.put("poster.jpg", SECRET)
        signed = buckets.video.presign_get("poster.jpg", PresignedGet(expires_seconds=60))
    url = f"{store.url}/vodbucket-video/poster.jpg"

    assert _status(signed) == 200
    assert _status(signed.replace("X-Amz-Signature=", "X-Amz-Signature=0")) == 403
    assert _status(signed.replace("poster.jpg", "poster2.jpg")) == 403
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert _status(url, method) == 403
    wrong = EmbeddedStore(store.ports, "another secret")
    async with open_buckets(_settings(wrong)) as buckets:
        forged = buckets.video.presign_get("poster.jpg", PresignedGet(expires_seconds=60))
        assert _status(forged) == 403
        with pytest.raises(StoreDenied, match="403 SignatureDoesNotMatch"):
            await buckets.video.put("k", b"")
    assert _status(signed) == 200


async def test_no_port_serves_an_object_without_keys(shared: Shared) -> None:
    data, store, process = shared
    async with open_buckets(_settings(store)) as buckets:
        await ensure_buckets(buckets)
        await buckets.video.put("private.mp4", SECRET * 1000)
    listening = _listening(process.pid)
    file_ids = _file_ids(data)
    lookups = [f"/dir/lookup?fileId={file_id}&read=yes" for file_id in file_ids]

    assert {host for host, _ in listening} == {"127.0.0.1"}
    assert {port for _, port in listening} == set(store.ports.values())
    for name, port in store.ports.items():
        if name.endswith(".grpc"):
            assert _speaks_only_tls_with_our_certificate(port), name
            continue
        for path in (*ROUTES, *(f"/{file_id}" for file_id in file_ids), *lookups):
            for method in ("GET", "POST", "PUT", "DELETE"):
                status, body = _ask(port, method, path)
                assert SECRET not in body, (name, method, path)
                assert b"Bearer" not in body, (name, method, path)
                assert status >= 400 or path in OPEN_ROUTES, (name, method, path, status)
    key = tomllib.loads((data.store / "weed" / "security.toml").read_text())["jwt"]["signing"]["read"]["key"]
    with_key = [
        _ask(store.ports["volume.port"], "GET", f"/{file_id}?jwt={_token(key, file_id)}")[1]
        for file_id in file_ids
    ]
    assert any(SECRET in body for body in with_key)  # proves that these are the right addresses
    async with open_buckets(_settings(store)) as buckets:
        assert (await buckets.video.get("private.mp4")).body == SECRET * 1000


def _listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses on which the process accepts TCP connections (proc(5))."""
    if not Path("/proc/net/tcp").exists():
        missing("no /proc/net/tcp here")
    links = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime, so not a listening socket
            links.add(str(descriptor.readlink()))
    found = set()
    for version, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{version}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and f"socket:[{rest[5]}]" in links:
                address, port = local.split(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def _file_ids(data: DataDirectory) -> list[str]:
    """Return the file id of everything in the volumes, read from their index and data files."""
    found = []
    for index in (data.store / "weed").glob("*.idx"):
        volume = index.stem.rpartition("_")[2]
        body, entries = index.with_suffix(".dat").read_bytes(), index.read_bytes()
        for at in range(0, len(entries), 16):  # needle id, offset in units of 8 bytes, size
            needle, offset = (
                entries[at : at + 8].hex().lstrip("0"),
                int.from_bytes(entries[at + 8 : at + 12]) * 8,
            )
            found.append(f"{volume},{needle}{body[offset : offset + 4].hex()}")
    return found


def _token(key: str, file_id: str) -> str:
    """Return a JWT that lets its holder read from the volume server (HS256)."""
    claims = {"exp": int(time.time()) + 60, "fid": file_id}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = urlsafe_b64encode(hmac.digest(key.encode(), signed, "sha256")).rstrip(b"=")
    return f"{signed.decode()}.{signature.decode()}"


def _ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    """Send a request as a page from another origin would, without following redirects."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={"Origin": "http://evil.example"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _speaks_only_tls_with_our_certificate(port: int) -> bool:
    """Return whether both HTTP/2 without TLS and TLS without a client certificate are refused."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.sendall(preface)
        try:
            if plain.recv(100)[3:4] == b"\x04":  # an HTTP/2 SETTINGS frame
                return False
        except ConnectionResetError:
            pass
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
    ):
        try:
            secured.sendall(preface)
            return secured.recv(100) == b""
        except (ssl.SSLError, ConnectionResetError):  # in TLS 1.3 the refusal comes after the handshake
            return True


async def test_a_second_store_picks_other_ports_and_many_buckets_take_little_space(
    shared: Shared, data: DataDirectory
) -> None:
    directory, first, _ = shared
    (data.store / "ports").write_text((directory.store / "ports").read_text())
    with _running(data) as (store, _):
        assert set(store.ports.values()).isdisjoint(first.ports.values())
        assert answers(f"{first.url}/healthz")
        for number in range(5):  # SeaweedFS has eight volumes by default, and a bucket takes seven
            names = {"s3_raw_bucket": f"raw-{number}", "s3_video_bucket": f"video-{number}"}
            async with open_buckets(_settings(store).model_copy(update=names)) as buckets:
                await ensure_buckets(buckets)
                await buckets.raw.put("k", SECRET)
                await buckets.video.put("k", SECRET)
        used = sum(path.stat().st_blocks * 512 for path in (data.store / "weed").rglob("*") if path.is_file())
    assert used < 16 * 1024 * 1024


def test_without_the_embedded_store_the_error_names_the_setting(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_store.sysconfig, "get_path", lambda name: "/nowhere")

    with pytest.raises(CannotRun, match=r"^[^.]*S3_ENDPOINT_URL[^.]*\.$"):
        store_command(choose_store(data), data)


def test_an_invalid_ports_file_is_replaced(data: DataDirectory) -> None:
    (data.store / "ports").write_text("{broken")

    store = choose_store(data)

    assert json.loads((data.store / "ports").read_text()) == store.ports
    assert len(set(store.ports.values())) == 8
