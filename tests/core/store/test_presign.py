"""Presigned URLs match the SDK's and use the current credentials."""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import botocore.session
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from backend.core.store.interface import PresignedGet
from backend.core.store.s3.presign import MAX_EXPIRES_SECONDS, Credentials, Presigner

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
STATIC = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY = Credentials("ASIAEXAMPLE", "secret", "token/with+odd=characters==")

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda key: not key.startswith("/")
)
dispositions = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
ENDPOINTS = [
    ("http://127.0.0.1:9000", "path", "http://127.0.0.1:9000/films"),
    ("https://s3.example", "path", "https://s3.example/films"),
    ("https://s3.eu-west-1.amazonaws.com", "virtual", "https://films.s3.eu-west-1.amazonaws.com"),
    ("http://s3.example:80", "path", "http://s3.example:80/films"),
    ("https://example.org/store", "path", "https://example.org/store/films"),
]


class SdkPresigner:
    """botocore's own presigner, at a fixed time."""

    def __init__(self, endpoint: str, style: str, credentials: Credentials) -> None:
        session = botocore.session.Session()
        session.set_credentials(credentials.access_key, credentials.secret_key, credentials.session_token)
        config = Config(signature_version="s3v4", s3={"addressing_style": style})
        self._client = session.create_client(
            "s3", region_name="eu-west-1", endpoint_url=endpoint, config=config
        )

    def get_url(self, key: str, how: PresignedGet) -> str:
        params = {"Bucket": "films", "Key": key}
        if how.content_disposition is not None:
            params["ResponseContentDisposition"] = how.content_disposition
        with patch.object(botocore.auth, "get_current_datetime", lambda: NOON.replace(tzinfo=None)):
            url: str = self._client.generate_presigned_url(
                "get_object", params, ExpiresIn=how.expires_seconds
            )
        return url


@pytest.fixture(scope="module", params=[(*end, who) for end in ENDPOINTS for who in (STATIC, TEMPORARY)])
def presigners(request: pytest.FixtureRequest) -> tuple[Presigner, SdkPresigner]:
    endpoint, style, bucket_url, credentials = request.param
    ours = Presigner(bucket_url, "eu-west-1", lambda: credentials)
    return ours, SdkPresigner(endpoint, style, credentials)


@given(key=keys, disposition=dispositions, expires_seconds=st.integers(1, MAX_EXPIRES_SECONDS))
def test_signatures_match_the_sdks(
    presigners: tuple[Presigner, SdkPresigner], key: str, disposition: str | None, expires_seconds: int
) -> None:
    how = PresignedGet(expires_seconds, disposition, NOON)

    ours, theirs = (presigner.get_url(key, how) for presigner in presigners)

    assert sorted(parse_qsl(urlsplit(ours).query)) == sorted(parse_qsl(urlsplit(theirs).query))
    assert urlsplit(ours).path == urlsplit(theirs).path


def test_the_signature_matches_the_specifications_example() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    example = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    presigner = Presigner("https://examplebucket.s3.amazonaws.com", "us-east-1", lambda: example)
    signed_at = datetime(2013, 5, 24, tzinfo=UTC)

    url = presigner.get_url("test.txt", PresignedGet(86_400, signed_at=signed_at))

    expected = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert url.endswith(f"&X-Amz-Signature={expected}")


def test_equal_times_give_equal_urls() -> None:
    presigner = Presigner("https://s3.example/films", "us-east-1", lambda: STATIC)
    how = PresignedGet(900, signed_at=NOON)
    same_second = PresignedGet(900, signed_at=NOON + timedelta(microseconds=999_999))

    assert presigner.get_url("k", how) == presigner.get_url("k", same_second)
    assert presigner.get_url("k", how) != presigner.get_url("k2", how)


def test_times_in_other_zones_are_signed_as_utc() -> None:
    presigner = Presigner("https://s3.example/films", "us-east-1", lambda: STATIC)
    elsewhere = NOON.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+13:00").tzinfo)

    assert presigner.get_url("k", PresignedGet(900, signed_at=elsewhere)) == presigner.get_url(
        "k", PresignedGet(900, signed_at=NOON)
    )


def test_signs_with_the_current_day_and_credentials() -> None:
    current = [STATIC]
    presigner = Presigner("https://s3.example/films", "us-east-1", lambda: current[0])
    how = PresignedGet(900, signed_at=NOON)
    presigner.get_url("k", PresignedGet(900, signed_at=NOON - timedelta(days=1)))
    presigner.get_url("k", how)

    current[0] = TEMPORARY

    fresh = Presigner("https://s3.example/films", "us-east-1", lambda: TEMPORARY)
    assert presigner.get_url("k", how) == fresh.get_url("k", how)
    assert "X-Amz-Security-Token=token%2Fwith%2Bodd%3Dcharacters%3D%3D" in presigner.get_url("k", how)


def test_a_url_is_valid_for_a_week_at_most() -> None:
    presigner = Presigner("https://s3.example/films", "us-east-1", lambda: STATIC)

    assert "X-Amz-Expires=604800&" in presigner.get_url("k", PresignedGet(10_000_000))


def test_urls_are_signed_by_the_stores_clock_and_a_little_in_the_past() -> None:
    presigner = Presigner("https://s3.example/films", "us-east-1", lambda: STATIC, lambda: 1200, 60)

    url = presigner.get_url("k", PresignedGet(900, signed_at=NOON))

    assert "X-Amz-Date=20261121T121900Z&X-Amz-Expires=960&" in url


def test_credentials_do_not_show_their_secrets() -> None:
    assert "secret" not in repr(TEMPORARY)
    assert "token" not in repr(TEMPORARY).replace("session_token", "")
