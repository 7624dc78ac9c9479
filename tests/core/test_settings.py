"""Settings: a wrong value names its variable and gives no secret away."""

import pytest
from pydantic import SecretStr

from backend.core.errors import ConfigurationError
from backend.core.settings import ApiSettings, StoreSettings, WorkerSettings, load
from backend.core.store.s3 import open_buckets

TOKEN = "a-token-of-sufficient-length"


def test_defaults_suffice_for_everything_but_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)

    settings = load(ApiSettings)

    assert (settings.port, settings.s3_endpoint_url) == (3000, None)
    assert settings.admin_token.get_secret_value() == TOKEN
    assert load(WorkerSettings).rendition_codecs == ("av1", "h264")


def test_a_missing_token_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^ADMIN_TOKEN: is not set$"):
        load(ApiSettings)


def test_an_empty_value_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "")
    monkeypatch.setenv("S3_ENDPOINT_URL", "")

    assert load(StoreSettings).s3_endpoint_url is None
    with pytest.raises(ConfigurationError, match="ADMIN_TOKEN: is not set"):
        load(ApiSettings)


def test_a_short_token_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        load(ApiSettings)


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_wrong_codecs_are_refused(monkeypatch: pytest.MonkeyPatch, codecs: str) -> None:
    monkeypatch.setenv("RENDITION_CODECS", codecs)

    with pytest.raises(ConfigurationError, match="RENDITION_CODECS: "):
        load(WorkerSettings)


def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")

    shown = repr(load(ApiSettings))

    assert TOKEN not in shown
    assert "wJalrXUtnFEMI" not in shown


def test_line_ends_of_secrets_and_slashes_of_origins_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN + "\n")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example/, https://b.example")

    settings = load(ApiSettings)

    assert settings.admin_token.get_secret_value() == TOKEN
    assert settings.cors_origins == ("https://a.example", "https://b.example")


async def test_buckets_on_aws_must_have_names_of_their_own() -> None:
    settings = StoreSettings(
        aws_access_key_id="a", aws_secret_access_key=SecretStr("b"), s3_raw_bucket="my-own"
    )
    with pytest.raises(ConfigurationError, match=r"^S3_VIDEO_BUCKET: "):
        async with open_buckets(settings):
            pass
