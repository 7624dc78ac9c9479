"""Settings: errors name the variable and reveal no secret."""

import pytest
from pydantic import SecretStr

from backend.core.errors import ConfigurationError
from backend.core.settings import ApiSettings, StoreSettings, WorkerSettings, load
from backend.core.store.s3 import open_buckets

TOKEN = "a-token-of-sufficient-length"


def test_everything_but_the_token_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)

    settings = load(ApiSettings)

    assert (settings.port, settings.s3_endpoint_url) == (3000, None)
    assert settings.admin_token.get_secret_value() == TOKEN
    assert load(WorkerSettings).rendition_codecs == ("av1", "h264")


def test_a_missing_token_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^ADMIN_TOKEN: is not set$"):
        load(ApiSettings)


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "")
    monkeypatch.setenv("S3_ENDPOINT_URL", "")

    assert load(StoreSettings).s3_endpoint_url is None
    with pytest.raises(ConfigurationError, match="ADMIN_TOKEN: is not set"):
        load(ApiSettings)


def test_rejects_a_short_token_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "hunter2")

    with pytest.raises(ConfigurationError, match="ADMIN_TOKEN: must have at least 16 characters") as caught:
        load(ApiSettings)
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("PRESIGN_TTL_SECONDS", "5"),
        ("MAX_UPLOAD_BYTES", "0"),
        ("S3_ENDPOINT_URL", "localhost"),
        ("S3_RAW_BUCKET", "x"),
    ],
)
def test_an_invalid_value_is_reported_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        load(ApiSettings)


def test_all_invalid_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_SECONDS", "0")
    monkeypatch.setenv("MAX_ATTEMPTS", "none")

    with pytest.raises(ConfigurationError) as caught:
        load(WorkerSettings)
    assert "LEASE_SECONDS: " in caught.value.message
    assert "MAX_ATTEMPTS: " in caught.value.message


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example,")
    monkeypatch.setenv("RENDITION_CODECS", "h264")

    assert load(ApiSettings).cors_origins == ("https://a.example", "https://b.example")
    assert load(WorkerSettings).rendition_codecs == ("h264",)


@pytest.mark.parametrize("codecs", ["vp9", "av1,av1", ","])
def test_rejects_invalid_codecs(monkeypatch: pytest.MonkeyPatch, codecs: str) -> None:
    monkeypatch.setenv("RENDITION_CODECS", codecs)

    with pytest.raises(ConfigurationError, match="RENDITION_CODECS: "):
        load(WorkerSettings)


@pytest.mark.parametrize("downloads", ["mp4", "webm,avi", "webm,webm", ","])
def test_rejects_invalid_downloads(monkeypatch: pytest.MonkeyPatch, downloads: str) -> None:
    monkeypatch.setenv("DOWNLOADS", downloads)

    with pytest.raises(ConfigurationError, match=r"^DOWNLOADS: must be "):
        load(WorkerSettings)


def test_an_mp4_needs_h264(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOADS", "mp4,webm")
    assert load(WorkerSettings).downloads == ("mp4", "webm")

    monkeypatch.setenv("RENDITION_CODECS", "av1")
    with pytest.raises(
        ConfigurationError, match=r"^DOWNLOADS: must be webm unless RENDITION_CODECS names h264$"
    ):
        load(WorkerSettings)


def test_doorbells_are_hosts_with_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("DOORBELLS", "workers:7000, 10.0.0.5:7001,[::1]:7002")
    monkeypatch.setenv("DOORBELL", "0.0.0.0:7000")

    assert load(ApiSettings).doorbells == (("workers", 7000), ("10.0.0.5", 7001), ("::1", 7002))
    assert load(WorkerSettings).doorbell == ("0.0.0.0", 7000)


@pytest.mark.parametrize("address", ["7000", "host", "host:0", "host:65536", "a b:7000", "host:٣", ":7000"])
def test_rejects_invalid_doorbells(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DOORBELL", address)

    with pytest.raises(ConfigurationError, match=r"^DOORBELL: must be a host "):
        load(WorkerSettings)


def test_rungs_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNGS", "2160, 480")

    assert load(WorkerSettings).rungs == (480, 2160)


@pytest.mark.parametrize("rungs", ["720p", "360,360", ",", "361", "14", "8640"])
def test_rejects_invalid_rungs(monkeypatch: pytest.MonkeyPatch, rungs: str) -> None:
    monkeypatch.setenv("RUNGS", rungs)

    with pytest.raises(ConfigurationError, match=r"^RUNGS: must be "):
        load(WorkerSettings)


def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")

    shown = repr(load(ApiSettings))

    assert TOKEN not in shown
    assert "wJalrXUtnFEMI" not in shown


def test_strips_line_ends_of_secrets_and_slashes_of_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN + "\n")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example/, https://b.example")

    settings = load(ApiSettings)

    assert settings.admin_token.get_secret_value() == TOKEN
    assert settings.cors_origins == ("https://a.example", "https://b.example")


async def test_default_bucket_names_are_rejected_on_aws() -> None:
    settings = StoreSettings(
        aws_access_key_id="a", aws_secret_access_key=SecretStr("b"), s3_raw_bucket="my-own"
    )
    with pytest.raises(ConfigurationError, match=r"^S3_VIDEO_BUCKET: "):
        async with open_buckets(settings):
            pass
