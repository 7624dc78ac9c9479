"""Every setting with every kind of wrong value: one sentence that names the variable."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from backend import __main__ as api
from backend.core.errors import ConfigurationError
from backend.core.settings import (
    ApiSettings,
    ClientSettings,
    FetchSettings,
    OidcSettings,
    OriginSettings,
    StoreSettings,
    TokenSettings,
    UploadSettings,
    WorkerSettings,
    load,
)
from tests.lab.server import free_port
from vodbucket import __main__ as command_line
from worker import __main__ as worker
from worker.sandbox.tools import find_tools

CLASSES = (
    StoreSettings,
    OriginSettings,
    UploadSettings,
    FetchSettings,
    TokenSettings,
    OidcSettings,
    ApiSettings,
    WorkerSettings,
    ClientSettings,
)
TOKEN = "a-token-of-sufficient-length"
FILE, DIRECTORY = str(Path(__file__)), str(Path(__file__).parent)
ANY = [" ", "\t", "a\nb", "a\x1b[31mb", "\udcff\udcfe"]
NUMBERS = ["many", "1,5", "nan", "inf", "-inf", "1e300", "-1e300", "9" * 5000, "-1", "0x10"]
URLS = [
    *(
        "store.example",
        "localhost:9000",
        "ftp://store.example",
        "http://",
        "http://a b",
        "http://a..b",
        "//a",
    ),
    *("http://my_store:9000", "http://user:hunter22@store.example", "http://hunter22@store.example"),
    *("http://store.example?x=hunter22", "http://store.example/#a", "http://store.example:99999"),
]
BUCKETS = [
    *("ab", "a" * 64, "Upper", "under_score", "-a-b", "a-b-", "a..b", "a.-b", "a-.b", "192.168.0.1", "a/b"),
    *("xn--abc", "abc-s3alias", "s3://abc", "ä-bucket"),
]
WRONG = {
    "s3_endpoint_url": [*URLS, "http://store.example/vodbucket-raw"],
    "s3_public_endpoint_url": [*URLS, "http://store.example/vodbucket-video/"],
    "s3_raw_bucket": BUCKETS,
    "s3_video_bucket": [*BUCKETS, "vodbucket-raw"],
    "aws_region": ["bad region", "us_east_1", "-a", "12", "us-east-1/", "é"],
    "aws_access_key_id": ["with space", "with/slash", "schlüssel"],
    "aws_secret_access_key": ["hunter22é"],
    "aws_session_token": ["hunter22é"],
    "cors_origins": [
        *("videos.example", "https://a.example/page", "https://a.example,b.example", "https://a.example?x=1"),
        *("https://user:hunter22@a.example", "null", "ftp://a.example", "https://*.a.example", "https://a_b"),
    ],
    "admin_token": ["hunter22", "hunter22-hunter22-é", "x" * 15],
    "vodbucket_url": URLS,
    "host": ["http://127.0.0.1", "127.0.0.1:3000", "a b", "a..b", "a" * 64, "[::1]", "é"],
    "rendition_codecs": ["vp9", "av1,av1", ","],
    "rungs": ["360,480p", "360,360", "0", "361", "-360", "8640", "360;720", ","],
    "import_buckets": ["Upper", "ab", "films,a b", "vodbucket-raw", "films,vodbucket-video"],
    "inbox_token": ["short"],
    "downloads": ["mp4", "webm,avi", "webm,webm", ","],
    "video_server_addr": [
        "3000",
        ":3000",
        "localhost",
        "localhost:0",
        "localhost:65536",
        "http://localhost:1",
    ],
    "doorbell": ["7000", "localhost", "localhost:0", "localhost:65536", "a b:7000", "http://localhost:7000"],
    "doorbells": ["localhost:7000,worker", "localhost:7000,:7000", "a b:7000"],
    "embed_origins": ["example.com", "https://example.com/a", "none,https://a.example", "https://*.example"],
    "root_path": [
        "/api",
        "/videos/x",
        "vod",
        "/a b",
        "/vod/../x",
        "//vod",
        "https://a.example/vod",
        "/vod?x",
    ],
    "fetch_proxy": [*URLS[:7], "https://proxy.example", "socks5://proxy.example", "http://proxy.example/a"],
    "webhook_urls": [
        *("receiver.example", "ftp://receiver.example/hunter22", "http://a b/", "http://a/#hunter22"),
        "http://a/hunter22,http://a/hunter22",
    ],
    "webhook_secrets": ["hunter22", "whsec_hunter22", f"whsec_{'A' * 100}", f"whsec_{'A' * 31}ä"],
    "public_url": [*URLS, "https://vod.example/elsewhere"],
    "oidc_issuer": [
        *("accounts.example", "http://accounts.example", "https://a b", "https://a.example?x=hunter22"),
        *("https://user:hunter22@a.example", "https://a.example"),
    ],
    "oidc_client_id": ["x" * 256],
    "oidc_client_secret": ["hunter22é"],
    "oidc_name": ["x" * 51],
    "oidc_scopes": ["profile", "openid,email", "openid  email"],
    "oidc_allowed": ["groups", "groups=", "=video", "@", "@a b", "groups=video,@"],
    "site_dir": [FILE],
    "work_dir": [FILE],
    "ytdlp_cookies_file": [FILE, DIRECTORY, "/nowhere"],
    "video_vaapi_device": [FILE, DIRECTORY],
}
CHECKED_AT_USE = {"ffmpeg": ["/nowhere", DIRECTORY, FILE], "ffprobe": ["/nowhere"], "packager": ["/nowhere"]}
"""Commands that run none of these programs do not need them."""


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types of an optional or annotated field."""
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _kinds(one)
    elif annotation is not type(None):
        yield annotation


def _is_number(field: FieldInfo) -> bool:
    return bool({int, float} & set(_kinds(field.annotation)))


def _wrong_values(name: str, field: FieldInfo) -> list[str]:
    kinds = list(_kinds(field.annotation))
    values = [*ANY, *WRONG.get(name, ())]
    if _is_number(field):
        values += NUMBERS + (["1.5"] if int in kinds else [])
    if bool in kinds:
        values += ["maybe", "2", "ja"]
    if any(get_origin(kind) is Literal for kind in kinds):
        values += ["something", "AUTO "]
    return values


ROWS = [
    pytest.param(settings, name, value, id=f"{settings.__name__}-{name.upper()}-{value[:24]!a}")
    for settings in CLASSES
    for name in settings.__annotations__
    for value in _wrong_values(name, settings.model_fields[name])
]


@pytest.fixture(autouse=True)
def _required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)


@pytest.mark.parametrize(("settings", "name", "value"), ROWS)
def test_rejects_with_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, settings: type[StoreSettings], name: str, value: str
) -> None:
    monkeypatch.setenv(name.upper(), value)

    with pytest.raises(ConfigurationError) as caught:
        load(settings)

    sentence = caught.value.message
    assert sentence.startswith(f"{name.upper()}: must ")
    assert sentence.isprintable()
    assert sentence.count(": ") == 1
    assert ";" not in sentence
    assert "hunter22" not in sentence


@pytest.mark.parametrize("settings", CLASSES)
def test_every_setting_has_rows(settings: type[StoreSettings]) -> None:
    for name, field in settings.model_fields.items():
        kinds = list(_kinds(field.annotation))
        simple = _is_number(field) or bool in kinds or any(get_origin(kind) is Literal for kind in kinds)
        assert simple or name in WRONG or name in CHECKED_AT_USE, f"add wrong values of {name} to WRONG"


@pytest.mark.parametrize("settings", CLASSES)
def test_every_number_has_a_lower_and_an_upper_bound(settings: type[StoreSettings]) -> None:
    for name, field in settings.model_fields.items():
        if _is_number(field):
            bounds = {type(bound) for bound in field.metadata}
            assert bounds & {annotated_types.Ge, annotated_types.Gt}, name
            assert annotated_types.Le in bounds, name


def _ended(capsys: pytest.CaptureFixture[str], status: int | str | None, start: str) -> str:
    """Return the sentence on stderr, which is all that a person sees."""
    said = capsys.readouterr().err
    assert status == 2
    assert said.startswith(start)
    assert said.count("\n") == 1
    return said.removeprefix(start)


FOR_PROCESSES = {
    **{name: values[0] for name, values in WRONG.items()},
    "lease_seconds": "inf",
    "upload_ttl_seconds": "1e300",
    "sweep_grace_seconds": "nan",
    "only_worker": "maybe",
    "port": "http",
}


@pytest.mark.parametrize("name", sorted(FOR_PROCESSES))
def test_each_process_ends_with_status_2_and_the_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name.upper(), FOR_PROCESSES[name])

    if name in ApiSettings.model_fields:
        monkeypatch.setattr(api, "configure_logs", lambda: None)
        assert _ended(capsys, api.main(), "vodbucket: ").startswith(f"{name.upper()}: must ")
    if name in WorkerSettings.model_fields:
        monkeypatch.setattr(worker, "configure_logs", lambda: None)
        monkeypatch.setattr("sys.argv", ["worker"])
        assert _ended(capsys, worker.main(), "vodbucket worker: ").startswith(f"{name.upper()}: must ")
    for settings, command in ((WorkerSettings, "sweep"), (ClientSettings, "list")):
        if name in settings.model_fields:
            monkeypatch.setattr(command_line, "configure_logs", lambda level: None)
            monkeypatch.setattr("sys.argv", ["vodbucket", command])
            with pytest.raises(SystemExit) as ended:
                command_line.main()
            assert _ended(capsys, ended.value.code, "vodbucket: ").startswith(f"{name.upper()}: must ")


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CHECKED_AT_USE.items() for value in values]
)
def test_a_program_that_cannot_run_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker logs it, and waits for another."""
    monkeypatch.setenv(name.upper(), value)
    with pytest.raises(ConfigurationError, match=f"^{name.upper()}: "):
        find_tools(load(WorkerSettings))


def test_the_endpoint_must_not_be_this_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, store in (("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        monkeypatch.setenv("HOST", host)
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://{store}:3000")
        with pytest.raises(ConfigurationError, match=r"^S3_ENDPOINT_URL: must be the store's address"):
            load(ApiSettings)


def test_the_address_of_vrs_replaces_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_SERVER_ADDR", "[::]:8080")
    assert load(ApiSettings).listens_at == ("::", 8080)
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://localhost:8080")
    with pytest.raises(ConfigurationError, match=r"^S3_ENDPOINT_URL: must be the store's address"):
        load(ApiSettings)
    monkeypatch.setenv("PORT", "3000")
    with pytest.raises(ConfigurationError, match=r"^VIDEO_SERVER_ADDR: must not be set beside HOST or PORT$"):
        load(ApiSettings)


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_settings_of_vrs_for_its_disk_are_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_STORAGE_MIN_FREE_BYTES", "1000000000")
    with pytest.raises(ConfigurationError, match=r"^VIDEO_STORAGE_MIN_FREE_BYTES: means nothing here"):
        load(settings)


def test_an_api_without_its_store_ends_with_status_3_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"http://127.0.0.1:{free_port()}"
    for name, value in (("S3_ENDPOINT_URL", store), ("PORT", str(free_port()))):
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(api, "configure_logs", lambda: None)

    status = api.main()

    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (3, 1)
    assert f"the store at {store} cannot be reached: Connection refused" in said


def test_a_port_that_is_taken_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moto_server: Any
) -> None:
    port = moto_server.endpoint_url.rpartition(":")[2]
    monkeypatch.setenv("PORT", port)
    monkeypatch.setattr(api, "configure_logs", lambda: None)

    assert _ended(capsys, api.main(), "vodbucket: ") == (
        f"cannot listen on 127.0.0.1:{port} (HOST, PORT): Address already in use\n"
    )


def test_right_values_that_look_odd_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {
        "S3_ENDPOINT_URL": "https://abc.supabase.co/storage/v1/s3",
        "S3_PUBLIC_ENDPOINT_URL": "http://[::1]:9000/",
        "S3_RAW_BUCKET": "my.raw-bucket.1",
        "AWS_REGION": "auto",
        "CORS_ORIGINS": "https://Videos.Example:443/, http://[::1]:80, http://localhost:5173, *",
        "ADMIN_TOKEN": " correct horse battery staple\n",
        "HOST": "::",
        "VODBUCKET_URL": "https://example.org/vod/",
        "WORK_DIR": "/not/there/yet",
        "LEASE_SECONDS": " 60 ",
    }
    for name, value in odd.items():
        monkeypatch.setenv(name, value)

    settings = load(ApiSettings)

    assert settings.cors_origins == ("https://videos.example", "http://[::1]", "http://localhost:5173", "*")
    assert settings.admin_token.get_secret_value() == "correct horse battery staple"
    assert math.isclose(load(WorkerSettings).lease_seconds, 60)
    assert str(load(ClientSettings).vodbucket_url) == "https://example.org/vod/"
