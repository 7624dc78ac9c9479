"""Sign-in through a real OpenID Connect provider: who comes in, and who does not."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from backend.core.access.people import Role
from backend.core.access.principals import CACHED_SECONDS
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.openid.attempts import TTL_SECONDS
from backend.openid.service import OpenId
from backend.routes.services import Services
from tests.backend.conftest import Clock, api_process
from tests.lab.asgi import client_of
from tests.lab.openid import ANNA, LabProvider, lab_provider, sign_in_there

pytestmark = pytest.mark.heavy
CLIENT = "http://vod.example"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProvider]:
    lab = lab_provider(tmp_path_factory.mktemp("provider"), CLIENT)
    with lab.running():
        yield lab


@dataclass
class Visitor:
    """A browser at one of the processes of the API."""

    client: httpx.AsyncClient
    services: Services

    async def sign_in(self, login: str = "anna") -> str:
        """Return where the site is told how it ended: `/`, or the code of a problem."""
        there = await self.go_there()
        return await self.come_back(await sign_in_there(there, login, CLIENT))

    async def go_there(self) -> str:
        answer = await self.client.get("/api/oidc/sign-in")
        assert answer.status_code == 302
        return str(answer.headers["location"])

    async def come_back(self, url: str) -> str:
        answer = await self.client.get(url)
        assert answer.status_code == 302
        return str(answer.headers["location"]).removeprefix("/#sign-in=")

    @property
    def openid(self) -> OpenId:
        assert self.services.openid is not None
        return self.services.openid

    async def who(self) -> dict[str, Any] | None:
        answer = await self.client.get("/api/session")
        found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return found


Process = Callable[..., AbstractAsyncContextManager[Visitor]]


@pytest.fixture
def clock() -> Clock:
    """The provider's clock cannot be set, so ours shows the same."""
    return Clock(time.time())


@pytest.fixture
def process(settings: ApiSettings, buckets: Buckets, provider: LabProvider, clock: Clock) -> Process:
    """Run another process of the API, with a browser, on the same buckets."""
    provider.set_accounts(anna=ANNA)
    oidc = {name.lower(): value for name, value in provider.settings.items()}

    @asynccontextmanager
    async def started(**changed: Any) -> AsyncIterator[Visitor]:
        own = {"admin_token": settings.admin_token, "site_dir": settings.site_dir, **oidc, **changed}
        async with api_process(ApiSettings(**own), buckets, clock) as app, client_of(app, CLIENT) as client:
            yield Visitor(client, app.state.services)

    return started


async def test_a_new_person_gets_the_role_of_new_people(process: Process, provider: LabProvider) -> None:
    async with process(oidc_role="uploader") as visitor:
        assert await visitor.sign_in() == "/"
        first = await visitor.who()
        assert first is not None
        assert (first["role"], first["name"]) == ("uploader", "Anna Berg")

        provider.set_accounts(anna={"name": "Anna Holm", "email": "holm@example.org", "email_verified": True})
        assert await visitor.sign_in() == "/"
        assert await visitor.who() == {**first, "name": "Anna Holm"}
        assert len(await visitor.services.people.all()) == 1


async def test_only_people_who_were_added_come_in_by_default(process: Process, provider: LabProvider) -> None:
    async with process() as visitor:
        assert await visitor.sign_in() == "account_refused"
        anna = await visitor.openid.identities.add("Anna", Role.VIEWER, "anna@Example.org")
        provider.set_accounts(
            anna=ANNA, mallory={**ANNA, "email_verified": False}, heir={**ANNA, "name": "Heir"}
        )
        assert await visitor.sign_in("mallory") == "account_refused"
        assert await visitor.sign_in() == "/"
        assert await visitor.who() == {"role": "viewer", "person": anna.id, "name": "Anna Berg"}
        assert await visitor.sign_in("heir") == "account_refused", "her address is somebody else's now"


async def test_who_is_revoked_is_out_and_stays_out(
    process: Process, provider: LabProvider, clock: Clock
) -> None:
    async with process(oidc_role="viewer") as visitor, process(oidc_role="viewer") as elsewhere:
        assert await visitor.sign_in() == "/"
        person = await visitor.who()
        assert person is not None
        await elsewhere.services.people.revoke(person["person"])
        clock.unix += CACHED_SECONDS + 1
        assert await visitor.who() is None
        assert await visitor.sign_in() == "account_refused"


async def test_one_process_finishes_what_another_began(process: Process) -> None:
    async with process(oidc_role="viewer") as visitor, process(oidc_role="viewer") as elsewhere:
        back = await sign_in_there(await visitor.go_there(), "anna", CLIENT)
        elsewhere.client.cookies = visitor.client.cookies
        assert await elsewhere.come_back(back) == "/"
        assert await elsewhere.come_back(back) == "sign_in_expired", "the cookie is used up"


async def test_an_answer_counts_only_in_the_browser_that_asked(process: Process, clock: Clock) -> None:
    async with process(oidc_role="viewer") as victim, process(oidc_role="viewer") as attacker:
        back = await sign_in_there(await attacker.go_there(), "anna", CLIENT)
        assert await victim.come_back(back) == "sign_in_expired"
        own = _query(await victim.go_there())["state"]
        code = _query(back)["code"]
        for query in (f"state={own}&code={code}", f"state={own}&code=forged", f"state={own}"):
            assert await victim.come_back(f"/api/oidc/callback?{query}") == "sign_in_failed"
        refused = f"/api/oidc/callback?state={own}&error=access_denied"
        assert await victim.come_back(refused) == "sign_in_cancelled"
        foreign = await sign_in_there(await victim.go_there(), "anna", CLIENT)
        foreign = foreign.replace("iss=http", "iss=https")
        assert await victim.come_back(foreign) == "sign_in_failed"
        late = await sign_in_there(await victim.go_there(), "anna", CLIENT)
        clock.unix += TTL_SECONDS + 1
        assert await victim.come_back(late) == "sign_in_expired"
        assert await victim.who() is None


@pytest.mark.parametrize(("seconds", "outcome"), [(-100, "/"), (100, "/"), (-600, "sign_in_failed")])
async def test_clocks_may_differ_a_little(
    process: Process, clock: Clock, seconds: float, outcome: str
) -> None:
    async with process(oidc_role="viewer") as visitor:
        clock.unix += seconds
        assert await visitor.sign_in() == outcome


async def test_the_provider_may_start_later_and_change_its_keys(process: Process, tmp_path: Path) -> None:
    provider = lab_provider(tmp_path, CLIENT)
    async with process(oidc_role="viewer", oidc_issuer=provider.issuer) as visitor:
        assert (await visitor.client.get("/readyz")).status_code == 200
        assert await visitor.come_back("/api/oidc/sign-in") == "sign_in_unavailable"
        for _ in range(2):
            with provider.running():
                assert await visitor.sign_in() == "/"
        there = await visitor.go_there()
        state = _query(there)["state"]
        assert await visitor.come_back(f"/api/oidc/callback?state={state}&code=x") == "sign_in_unavailable"


async def test_one_of_the_allowed_claims_is_needed(process: Process, provider: LabProvider) -> None:
    provider.set_accounts(
        anna={**ANNA, "groups": ["staff", "video"]}, bert={"name": "Bert", "groups": "videos"}
    )
    allowed = {"oidc_allowed": "groups=video,@example.com", "oidc_scopes": "openid profile email groups"}
    async with process(oidc_role="viewer", **allowed) as visitor:
        assert await visitor.sign_in("bert") == "account_refused"
        assert await visitor.sign_in() == "/"


async def test_people_may_sign_out_at_the_provider_too(process: Process, provider: LabProvider) -> None:
    async with process() as visitor, httpx.AsyncClient() as browser:
        there = await visitor.client.get("/api/oidc/sign-out")
        assert _query(there.headers["location"])["post_logout_redirect_uri"] == f"{CLIENT}/"
        assert (await browser.get(there.headers["location"])).status_code == 200


async def test_the_provider_sends_people_back_to_the_public_address(process: Process) -> None:
    public = "https://films.example/vod"
    async with process(root_path="/vod", public_url=public) as visitor:
        answer = await visitor.client.get("/vod/api/oidc/sign-in")
        assert _query(answer.headers["location"])["redirect_uri"] == f"{public}/api/oidc/callback"
        (cookie,) = answer.headers.get_list("set-cookie")
        assert "Path=/vod/api/oidc;" in cookie
        assert "SameSite=lax" in cookie
        refused = await visitor.client.get("/vod/api/oidc/callback")
        assert refused.headers["location"] == "/vod/#sign-in=sign_in_expired"


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
