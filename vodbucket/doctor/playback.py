"""What a browser gets at the store's public address: presigned URLs, ranges, CORS; and what it must not."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from yarl import URL

from backend.core.errors import StoreError
from backend.core.store.interface import ObjectHeaders, PresignedGet, Store
from backend.core.store.probes import Check, Verdict, scratch

TIMEOUT_SECONDS = 15.0
BODY = bytes(range(256)) * 16
ANY_PAGE = "https://any-page.example"
CORS = "CORS for "
EXPOSED = frozenset({"content-length", "content-range"})
"""What players read of an answer."""

_ADDRESS_ADVICE = "Set S3_PUBLIC_ENDPOINT_URL to the store's address as browsers reach it."
_OPEN_ADVICE = "Videos are not private: end the store's public access, or use it for tests only."
_RANGE_ADVICE = "Players seek by ranges: look what between browser and store drops the Range header."
_CORS_ADVICE = "`vodbucket doctor --fix` or a start of the API sets the rules, unless the store takes none."


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def check_playback(video: Store, origins: Sequence[str]) -> AsyncIterator[Check]:
    """Fetch an object of the video bucket as players do. `origins` are the pages to check, by default any."""
    async with (
        scratch(video) as key,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS)) as session,
    ):
        browser = _Browser(session)
        try:
            await video.put(key("k.mp4"), BODY, ObjectHeaders("video/mp4"))
        except StoreError as error:
            yield Check("presigned URL", Verdict.FAIL, error.message, "See the rights on the video bucket.")
            return
        url = video.presign_get(key("k.mp4"), PresignedGet(expires_seconds=60))
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        expired = video.presign_get(key("k.mp4"), PresignedGet(60, signed_at=an_hour_ago))
        try:
            first = await browser.get(url)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            address = url.partition("?")[0].removesuffix(key("k.mp4"))
            measured = f"{address} cannot be reached ({type(error).__name__})"
            yield Check("presigned URL", Verdict.FAIL, measured, _ADDRESS_ADVICE)
            return
        try:
            yield _presigned(first)
            yield _ranges(await browser.get(url, Range="bytes=1000-1099"))
            yield _refused("altered signature", await browser.get(_altered(url)))
            yield _refused("expired URL", await browser.get(expired))
            yield _refused("unsigned URL", await browser.get(url.partition("?")[0]))
            for origin in origins or (ANY_PAGE,):
                yield await _cors(browser, url, origin)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            measured = f"the store stopped answering ({type(error).__name__})"
            yield Check("presigned URL", Verdict.FAIL, measured, _ADDRESS_ADVICE)


class _Browser:
    """Plain HTTP without credentials; redirects are shown, not followed."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, **headers: str) -> _Answer:
        return await self.ask("GET", url, headers)

    async def ask(self, method: str, url: str, headers: Mapping[str, str]) -> _Answer:
        async with self._session.request(
            # Encoded as it is: yarl would write the signed query anew.
            method,
            URL(url, encoded=True),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            lower = {name.lower(): value for name, value in answer.headers.items()}
            return _Answer(answer.status, lower, await answer.read())


def _presigned(answer: _Answer) -> Check:
    name = "presigned URL"
    if answer.status != 200:
        return Check(name, Verdict.FAIL, f"answered {answer.status}", _ADDRESS_ADVICE)
    if answer.body != BODY:
        return Check(name, Verdict.FAIL, "answered 200 with another body", _ADDRESS_ADVICE)
    return Check(name, Verdict.OK, "answered 200")


def _ranges(answer: _Answer) -> Check:
    found = answer.headers.get("content-range", "no Content-Range")
    right = (answer.status, found, answer.body) == (206, f"bytes 1000-1099/{len(BODY)}", BODY[1000:1100])
    return Check(
        "range of a presigned URL",
        Verdict.OK if right else Verdict.FAIL,
        f"answered {answer.status}, {found}",
        "" if right else _RANGE_ADVICE,
    )


def _refused(name: str, answer: _Answer) -> Check:
    if answer.status in {400, 401, 403}:
        return Check(name, Verdict.OK, f"refused with {answer.status}")
    said = "served" if answer.status == 200 else "not refused"
    return Check(name, Verdict.FAIL, f"{said}: answered {answer.status}", _OPEN_ADVICE)


async def _cors(browser: _Browser, url: str, origin: str) -> Check:
    name = CORS + ("any page" if origin == ANY_PAGE else origin)
    asked = {"Origin": ANY_PAGE if origin == "*" else origin}
    preflight = await browser.ask(
        "OPTIONS",
        url,
        {**asked, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"},
    )
    answer = await browser.ask("GET", url, {**asked, "Range": "bytes=0-9"})
    problems = []
    if preflight.status >= 300 or not _allows(preflight, asked["Origin"]):
        problems.append(f"the preflight is answered {preflight.status}")
    if not _allows(answer, asked["Origin"]):
        problems.append("pages may not read the answer")
    elif hidden := EXPOSED - _names(answer, "access-control-expose-headers"):
        problems.append(f"pages may not read {', '.join(sorted(hidden))}")
    if problems:
        return Check(name, Verdict.FAIL, "; ".join(problems), _CORS_ADVICE)
    return Check(name, Verdict.OK, "GET and ranges allowed, headers exposed")


def _allows(answer: _Answer, origin: str) -> bool:
    return answer.headers.get("access-control-allow-origin") in {origin, "*"}


def _names(answer: _Answer, header: str) -> set[str]:
    named = {name.strip().lower() for name in answer.headers.get(header, "").split(",")}
    return named | EXPOSED if "*" in named else named


def _altered(url: str) -> str:
    return url[:-1] + ("0" if url[-1] != "0" else "1")
