"""Checks of what browsers can fetch from the store's public address: presigned URLs, ranges, CORS."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from yarl import URL

from backend.core.errors import StoreError
from backend.core.store.interface import ObjectHeaders, PresignedGet, Store
from backend.core.store.probes import OUR_CLOCK_ADVICE, Check, Verdict, scratch

TIMEOUT_SECONDS = 15.0
BODY = bytes(range(256)) * 16
ANY_PAGE = "https://any-page.example"
CORS = "CORS for "
EXPOSED = frozenset({"content-length", "content-range"})
"""Response headers that players read."""

_ADDRESS_ADVICE = "Set S3_PUBLIC_ENDPOINT_URL to the address at which browsers can reach the store."
_OPEN_ADVICE = "Videos are not private: turn off public access to the store, or use it for tests only."
_RANGE_ADVICE = (
    "Players need ranges to seek: find out what removes the Range header between browser and store."
)
_CORS_ADVICE = (
    "Run `vodbucket doctor --fix` or start the API: both set CORS rules, if the store supports them."
)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def check_playback(video: Store, origins: Sequence[str]) -> AsyncIterator[Check]:
    """Fetch an object of the video bucket as players do, from pages of `origins` (by default, any page)."""
    async with (
        scratch(video) as key,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS)) as session,
    ):
        browser = _Browser(session)
        try:
            await video.put(key("k.mp4"), BODY, ObjectHeaders("video/mp4"))
        except StoreError as error:
            yield Check(
                "presigned URL", Verdict.FAIL, error.message, "Check the permissions on the video bucket."
            )
            return
        url = video.presign_get(key("k.mp4"), PresignedGet(expires_seconds=60))
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        expired = video.presign_get(key("k.mp4"), PresignedGet(60, signed_at=an_hour_ago))
        try:
            first = await browser.get(url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            address = url.partition("?")[0].removesuffix(key("k.mp4"))
            measured = f"cannot reach {address} ({type(error).__name__})"
            yield Check("presigned URL", Verdict.FAIL, measured, _ADDRESS_ADVICE)
            return
        try:
            yield _presigned(first)
            yield _ranges(await browser.get(url, Range="bytes=1000-1099"))
            yield _rejected("altered signature", await browser.get(_altered(url)))
            yield _rejected("expired URL", await browser.get(expired))
            yield _rejected("unsigned URL", await browser.get(url.partition("?")[0]))
            for origin in origins or (ANY_PAGE,):
                yield await _cors(browser, url, origin)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            measured = f"the store stopped responding ({type(error).__name__})"
            yield Check("presigned URL", Verdict.FAIL, measured, _ADDRESS_ADVICE)


class _Browser:
    """Plain HTTP without credentials. Redirects are returned, not followed."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, **headers: str) -> _Response:
        return await self.request("GET", url, headers)

    async def request(self, method: str, url: str, headers: Mapping[str, str]) -> _Response:
        async with self._session.request(
            # Already encoded: yarl would re-encode the signed query.
            method,
            URL(url, encoded=True),
            headers=headers,
            allow_redirects=False,
        ) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return _Response(response.status, lower, await response.read())


def _presigned(response: _Response) -> Check:
    name = "presigned URL"
    if response.status != 200:
        code = "".join(re.findall(r"<Code>(\w+)</Code>", response.body.decode(errors="replace")))
        late = re.search(b"TimeTooSkewed|not valid yet|not yet valid|has expired", response.body)
        advice = OUR_CLOCK_ADVICE if late else _ADDRESS_ADVICE
        return Check(name, Verdict.FAIL, f"status {response.status} {code}".rstrip(), advice)
    if response.body != BODY:
        return Check(name, Verdict.FAIL, "status 200 with a different body", _ADDRESS_ADVICE)
    return Check(name, Verdict.OK, "status 200")


def _ranges(response: _Response) -> Check:
    found = response.headers.get("content-range", "no Content-Range")
    right = (response.status, found, response.body) == (206, f"bytes 1000-1099/{len(BODY)}", BODY[1000:1100])
    return Check(
        "range of a presigned URL",
        Verdict.OK if right else Verdict.FAIL,
        f"status {response.status}, {found}",
        "" if right else _RANGE_ADVICE,
    )


def _rejected(name: str, response: _Response) -> Check:
    if response.status in {400, 401, 403}:
        return Check(name, Verdict.OK, f"rejected with {response.status}")
    return Check(name, Verdict.FAIL, f"not rejected: status {response.status}", _OPEN_ADVICE)


async def _cors(browser: _Browser, url: str, origin: str) -> Check:
    name = CORS + ("any page" if origin == ANY_PAGE else origin)
    request_headers = {"Origin": ANY_PAGE if origin == "*" else origin}
    preflight = await browser.request(
        "OPTIONS",
        url,
        {
            **request_headers,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        },
    )
    response = await browser.request("GET", url, {**request_headers, "Range": "bytes=0-9"})
    problems = []
    if preflight.status >= 300 or not _allows(preflight, request_headers["Origin"]):
        problems.append(f"the preflight got status {preflight.status}")
    if not _allows(response, request_headers["Origin"]):
        problems.append("pages cannot read the response")
    elif hidden := EXPOSED - _names(response, "access-control-expose-headers"):
        problems.append(f"pages cannot read {', '.join(sorted(hidden))}")
    if problems:
        return Check(name, Verdict.FAIL, "; ".join(problems), _CORS_ADVICE)
    return Check(name, Verdict.OK, "GET and ranges allowed, headers exposed")


def _allows(response: _Response, origin: str) -> bool:
    return response.headers.get("access-control-allow-origin") in {origin, "*"}


def _names(response: _Response, header: str) -> set[str]:
    named = {name.strip().lower() for name in response.headers.get(header, "").split(",")}
    return named | EXPOSED if "*" in named else named


def _altered(url: str) -> str:
    return url[:-1] + ("0" if url[-1] != "0" else "1")
