"""What a provider says is believed only if it says so about this sign-in, to us, and with its key."""

import time
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from backend.core.access.signing_keys import SigningKeys
from backend.core.errors import AccountRefused
from backend.openid.attempts import SignInAttempt, SignInAttempts
from backend.openid.errors import SignInFailed, SignInUnavailable
from backend.openid.provider import Client, Provider, account_of, is_allowed
from tests.lab.memory_store import MemoryStore

ISSUER = "https://accounts.example"
CALLBACK = "https://vod.example/api/oidc/callback"
KEY, OTHER = ECKey.generate_key(auto_kid=True), ECKey.generate_key(auto_kid=True)
SECRET = "the-secret-of-the-client-0123456789"


class FakeProvider:
    """Answers what the test wants. The real one is in test_openid.py."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            **{
                name: f"{ISSUER}/{name}"
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
            },
        }
        self.keys = [KEY]
        self.claims: dict[str, Any] = {}
        self.key: ECKey | OctKey = KEY
        self.header: dict[str, Any] = {"alg": "ES256", "kid": KEY.kid}
        self.userinfo: dict[str, Any] = {"sub": "a1", "name": "Anna"}
        self.answers: dict[str, httpx2.Response] = {}

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.lstrip("/")
        if path in self.answers:
            return self.answers[path]
        match path:
            case "jwks_uri":
                return httpx2.Response(200, json={"keys": [key.as_dict(private=False) for key in self.keys]})
            case "token_endpoint":
                id_token = jwt.encode(self.header, self.claims, self.key)
                return httpx2.Response(
                    200, json={"access_token": "t", "token_type": "Bearer", "id_token": id_token}
                )
            case "userinfo_endpoint":
                assert request.headers["authorization"] == "Bearer t"
                return httpx2.Response(200, json=self.userinfo)
        return httpx2.Response(200, json=self.metadata)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The network's place is taken, and nothing of ours."""
    fake = FakeProvider()

    async def handle(_: object, request: httpx2.Request) -> httpx2.Response:
        return fake.answer(request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
    return fake


@pytest.fixture
async def attempt() -> SignInAttempt:
    keys = SigningKeys(MemoryStore())
    await keys.reload()
    return SignInAttempts(keys, time.time).begin()


@pytest.fixture
async def provider(fake: FakeProvider, attempt: SignInAttempt) -> Provider:
    now = int(time.time())
    times = {"iat": now, "exp": now + 600}
    fake.claims = {"iss": ISSUER, "sub": "a1", "aud": "us", "nonce": attempt.nonce, **times}
    return Provider(Client(ISSUER, "us", SECRET, "openid", ()), time.time)


async def test_a_valid_answer_gives_the_account(provider: Provider, attempt: SignInAttempt) -> None:
    account = await provider.account(attempt, CALLBACK, "code", ISSUER)
    assert (account.subject, account.name, account.email) == ("a1", "Anna", None)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "others"},
        {"aud": ["us", "others"]},  # without azp
        {"aud": ["us", "others"], "azp": "others"},
        {"nonce": "of another sign-in"},
        {"exp": 1_700_000_000},
        {"iat": 9_999_999_999},
        {"nbf": 9_999_999_999},
        {"at_hash": "of another token"},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 256},
        *({name: None} for name in ("iss", "aud", "nonce", "exp", "iat", "sub")),
    ],
    ids=lambda claims: "-".join(claims),
)
async def test_claims_of_another_sign_in_are_refused(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt, claims: dict[str, Any]
) -> None:
    fake.claims = {name: value for name, value in {**fake.claims, **claims}.items() if value is not None}
    fake.userinfo["sub"] = fake.claims.get("sub")
    with pytest.raises(SignInFailed):
        await provider.account(attempt, CALLBACK, "code", None)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "ES256", "kid": KEY.kid}, OTHER),
        ({"alg": "ES256", "kid": OTHER.kid}, OTHER),
        ({"alg": "HS256", "kid": KEY.kid}, OctKey.import_key(SECRET)),
        ({"alg": "HS256"}, OctKey.import_key(SECRET)),
    ],
)
async def test_only_the_providers_keys_count(
    provider: Provider,
    fake: FakeProvider,
    attempt: SignInAttempt,
    header: dict[str, Any],
    key: ECKey | OctKey,
) -> None:
    fake.header, fake.key = header, key
    with pytest.raises(SignInFailed):
        await provider.account(attempt, CALLBACK, "code", None)


async def test_an_unsigned_token_is_refused(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt
) -> None:
    signed = jwt.encode(fake.header, fake.claims, KEY)
    unsigned = "eyJhbGciOiJub25lIn0." + signed.split(".")[1] + "."
    fake.answers["token_endpoint"] = httpx2.Response(200, json={"access_token": "t", "id_token": unsigned})
    with pytest.raises(SignInFailed):
        await provider.account(attempt, CALLBACK, "code", None)


@pytest.mark.parametrize("kid", [KEY.kid, OTHER.kid], ids=["the same name", "another name"])
async def test_new_keys_are_fetched_when_they_are_used(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt, kid: str
) -> None:
    """Also if a key has the name of an older one."""
    await provider.account(attempt, CALLBACK, "code", None)
    new = ECKey.import_key({**OTHER.as_dict(private=True), "kid": kid})
    fake.keys, fake.key, fake.header = [new], new, {"alg": "ES256", "kid": kid}
    await provider.account(attempt, CALLBACK, "code", None)


async def test_user_info_about_somebody_else_is_refused(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt
) -> None:
    fake.userinfo["sub"] = "b1"
    with pytest.raises(SignInFailed):
        await provider.account(attempt, CALLBACK, "code", None)


@pytest.mark.parametrize(
    ("in_token", "in_user_info", "address"),
    [
        ({"email": "x@y.z"}, {"email": "a@b.c", "email_verified": True}, None),
        ({"email": "x@y.z", "email_verified": True}, {"email": "a@b.c"}, "x@y.z"),
        ({}, {"email": "a@b.c", "email_verified": True}, "a@b.c"),
        ({"email_verified": True}, {"email": "a@b.c"}, None),
    ],
)
async def test_only_the_source_of_an_address_can_verify_it(
    provider: Provider,
    fake: FakeProvider,
    attempt: SignInAttempt,
    in_token: dict[str, Any],
    in_user_info: dict[str, Any],
    address: str | None,
) -> None:
    fake.claims |= in_token
    fake.userinfo |= in_user_info
    assert (await provider.account(attempt, CALLBACK, "code", None)).email == address


async def test_another_issuer_is_refused(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt
) -> None:
    with pytest.raises(SignInFailed):
        await provider.account(attempt, CALLBACK, "code", "https://evil.example")
    fake.metadata["issuer"] = "https://evil.example"
    other = Provider(Client(ISSUER, "us", SECRET, "openid", ()), time.time)
    with pytest.raises(SignInFailed):
        await other.sign_in_url(attempt, CALLBACK)


@pytest.mark.parametrize("path", [".well-known/openid-configuration", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(200, text="<html>"), SignInFailed),
        (httpx2.Response(200, json=[]), SignInFailed),
        (httpx2.Response(200, json={}), SignInFailed),
        (httpx2.Response(404, text="gone"), SignInFailed),
        (httpx2.Response(503, text="busy"), SignInUnavailable),
    ],
    ids=lambda value: getattr(value, "status_code", ""),
)
async def test_answers_of_another_form_crash_nothing(
    provider: Provider,
    fake: FakeProvider,
    attempt: SignInAttempt,
    path: str,
    answer: httpx2.Response,
    error: type[Exception],
) -> None:
    answer.request = httpx2.Request("GET", ISSUER)
    fake.answers[path] = answer
    with pytest.raises(error):
        await provider.account(attempt, CALLBACK, "code", None)


async def test_none_of_the_allowed_claims_is_a_refusal(
    provider: Provider, fake: FakeProvider, attempt: SignInAttempt
) -> None:
    strict = Provider(Client(ISSUER, "us", None, "openid", (("groups", "video"),)), time.time)
    with pytest.raises(AccountRefused):
        await strict.account(attempt, CALLBACK, "code", None)


def test_one_of_the_allowed_claims_is_enough() -> None:
    allowed = (("groups", "video"), ("@", "example.org"), ("staff", "true"))
    assert is_allowed({}, ())
    for claims in (
        {"groups": ["a", "video"]},
        {"groups": "video"},
        {"staff": True},
        {"email": "a@EXAMPLE.org", "email_verified": True},
    ):
        assert is_allowed(claims, allowed)
    for claims in (
        {},
        {"groups": ["videos"]},
        {"groups": "a video"},
        {"groups": {"video": 1}},
        {"staff": "yes"},
        {"email": "a@example.org"},
        {"email": "a@example.org", "email_verified": "false"},
        {"email": "a@evil.example.org", "email_verified": True},
        {"email": ["a@example.org"], "email_verified": True},
        {"@": "example.org"},
    ):
        assert not is_allowed(claims, allowed)


def test_names_are_clean_and_short() -> None:
    assert account_of({"sub": "a1", "name": " \u202eAnna\n" + "a" * 200}).name == "Anna" + "a" * 96
    assert account_of({"sub": "a1", "name": 7, "preferred_username": "anna"}).name == "anna"
    assert account_of({"sub": "a1", "name": "\u200b"}).name == "a1"
