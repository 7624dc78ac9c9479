"""The OpenID Connect provider (https://openid.net/specs/openid-connect-core-1_0.html): asks it who signs in.

Its description and keys are read when they are needed, and again after a while: it need not run when the API
starts, and may rotate its keys.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote_plus

import httpx2
import structlog
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]  # no py.typed
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]  # no py.typed
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]  # no py.typed
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from backend.core.access.identities import MAX_SUBJECT_LENGTH, Account
from backend.core.access.people import MAX_NAME_LENGTH
from backend.core.errors import AccountRefused
from backend.core.names import clean_text
from backend.core.recent_reads import RecentReads
from backend.openid.attempts import SignInAttempt
from backend.openid.errors import SignInFailed, SignInUnavailable

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 20.0
"""Of all requests that one sign-in needs."""
CACHED_SECONDS = 3600.0
SKEW_SECONDS = 120
"""How far the provider's clock may differ from ours."""
ALGORITHMS = [*("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), *("ES256", "ES384", "ES512", "EdDSA")]
"""Those with public keys: never `none`, nor those whose key is the client's secret."""

_INVALID = (
    *(SignInFailed, OAuthError, JoseError, httpx2.InvalidURL),
    *(LookupError, TypeError, AttributeError, ValueError),
)
"""What a provider's answer of another form leads to: nothing in it is checked before it is used."""

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Client:
    """What this server is for the provider, and whom it lets in: `allowed` has claims and their values."""

    issuer: str
    id: str
    secret: str | None
    scopes: str
    allowed: tuple[tuple[str, str], ...]


class Provider:
    """Everything that is said to and by the provider. `clock` returns Unix seconds."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._documents = RecentReads(_document, seconds=CACHED_SECONDS, capacity=4, clock=clock)

    async def sign_in_url(self, attempt: SignInAttempt, return_to: str) -> str:
        """Return where to send the browser. Raises: SignInUnavailable, SignInFailed."""
        async with self._asking(return_to) as (http, metadata):
            url, _ = http.create_authorization_url(
                metadata["authorization_endpoint"],
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    async def sign_out_url(self, return_to: str) -> str | None:
        """Return where people may sign out at the provider too, if it has such a page.

        https://openid.net/specs/openid-connect-rpinitiated-1_0.html
        """
        async with self._asking(return_to) as (_, metadata):
            endpoint = metadata.get("end_session_endpoint")
        query = {"client_id": self._client.id, "post_logout_redirect_uri": return_to}
        return endpoint and str(httpx2.URL(endpoint).copy_merge_params(query))

    async def account(self, attempt: SignInAttempt, return_to: str, code: str, issuer: str | None) -> Account:
        """Return whose account the provider's answer is about.

        `issuer` is who it says that it is (RFC 9207), if it does.

        Raises:
            SignInFailed, SignInUnavailable
            AccountRefused: none of the claims that are allowed.
        """
        async with self._asking(return_to) as (http, metadata):
            if issuer not in (None, metadata["issuer"]):
                raise SignInFailed(f"issuer {issuer!r}")
            token = await http.fetch_token(
                metadata["token_endpoint"],
                code=code,
                code_verifier=attempt.verifier,
                auth=self._basic_auth(metadata),
            )
            claims = await self._verified(token, attempt.nonce, metadata)
            if endpoint := metadata.get("userinfo_endpoint"):
                answer = (await http.get(endpoint)).raise_for_status().json()
                if answer["sub"] != claims["sub"]:  # section 5.3.2
                    raise SignInFailed("the user info is about somebody else")
                # What says whether an address is verified must come from where the address does.
                source = claims if "email" in claims else answer
                claims = {**answer, **claims, "email_verified": source.get("email_verified")}
            if not is_allowed(claims, self._client.allowed):
                raise AccountRefused
            return account_of(claims)

    @asynccontextmanager
    async def _asking(self, return_to: str) -> AsyncIterator[tuple[AsyncOAuth2Client, Claims]]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                metadata = await self._documents.get(
                    f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
                )
                if metadata["issuer"].rstrip("/") != self._client.issuer.rstrip("/"):
                    raise SignInFailed(f"the provider calls itself {metadata['issuer']!r}")
                async with AsyncOAuth2Client(
                    client_id=self._client.id,
                    client_secret=self._client.secret,
                    token_endpoint_auth_method="client_secret_post" if self._client.secret else "none",
                    scope=self._client.scopes,
                    redirect_uri=return_to,
                    code_challenge_method="S256",
                ) as http:
                    yield http, metadata
        except (TimeoutError, httpx2.RequestError) as error:
            log.warning("sign_in_unavailable", error=repr(error))
            raise SignInUnavailable from error
        except httpx2.HTTPStatusError as error:
            log.warning("sign_in_unavailable", error=str(error))
            raise (SignInUnavailable if error.response.is_server_error else SignInFailed) from error
        except (
            SignInFailed,
            OAuthError,
            JoseError,
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
        ) as error:
            log.warning("sign_in_failed", error=repr(error))
            raise SignInFailed from error

    def _basic_auth(self, metadata: Claims) -> httpx2.BasicAuth | None:
        """Return how a client proves who it is by default (section 9), or None if the provider cannot do it.

        authlib does not encode them before (RFC 6749 section 2.3.1).
        """
        default = "client_secret_basic"
        known = metadata.get("token_endpoint_auth_methods_supported") or [default]
        if self._client.secret is None or default not in known:
            return None
        return httpx2.BasicAuth(quote_plus(self._client.id), quote_plus(self._client.secret))

    async def _verified(self, token: Mapping[str, Any], nonce: str, metadata: Claims) -> Claims:
        """Return the claims of the ID token (section 3.1.3.7)."""
        uri = metadata["jwks_uri"]
        try:
            decoded = self._decoded(token["id_token"], await self._documents.get(uri))
        except (InvalidKeyIdError, BadSignatureError):  # it has new keys
            self._documents.forget(uri)
            decoded = self._decoded(token["id_token"], await self._documents.get(uri))
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": metadata["issuer"]},
                "aud": {"essential": True, "value": self._client.id},
            },
            {"nonce": nonce, "client_id": self._client.id, "access_token": token.get("access_token")},
        )
        claims.validate(int(self._clock()), SKEW_SECONDS)
        return dict(claims)

    def _decoded(self, id_token: str, keys: Claims) -> jwt.Token:
        return jwt.decode(
            id_token, KeySet.import_key_set(cast(KeySetSerialization, keys)), algorithms=ALGORITHMS
        )


async def _document(url: str) -> Claims:
    async with httpx2.AsyncClient(follow_redirects=True) as http:
        found = (await http.get(url)).raise_for_status().json()
    if not isinstance(found, dict):
        raise TypeError(f"{url} is not a JSON object")
    return found


def is_allowed(claims: Claims, allowed: tuple[tuple[str, str], ...]) -> bool:
    """Return whether one of the allowed claims is there. A claim may be a list of values, as groups are."""
    domain = (_email(claims) or "").rpartition("@")[2].lower()
    return not allowed or any(
        value == domain
        if name == "@"
        else value in (found if isinstance(found := claims.get(name), list) else [_written(found)])
        for name, value in allowed
    )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def account_of(claims: Claims) -> Account:
    """Raises: ValueError: the subject is not one (section 2)."""
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH:
        raise ValueError("the subject is not valid")
    named = (claims.get(claim) for claim in ("name", "preferred_username", "email", "sub"))
    names = (clean_text(name)[:MAX_NAME_LENGTH].strip() for name in named if isinstance(name, str))
    return Account(subject, next(filter(None, names), subject[:MAX_NAME_LENGTH]), _email(claims))


def _email(claims: Claims) -> str | None:
    """Return the address if the provider has verified it. Some say so in quotation marks."""
    email = claims.get("email")
    verified = claims.get("email_verified") in (True, "true")
    return email if verified and isinstance(email, str) and "@" in email else None
