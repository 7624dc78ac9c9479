"""A real OpenID Connect provider, npm's oidc-provider, on loopback; and a person who signs in there."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.lab.missing import missing
from tests.lab.product import REPOSITORY
from tests.lab.server import free_port, running

CLIENTS = REPOSITORY / "tests/clients"
SECRET = "a secret+with/signs%2B"
ANNA = {"name": "Anna Berg", "email": "Anna@example.org", "email_verified": True}


@dataclass(frozen=True, slots=True)
class LabProvider:
    """Where it is, and the accounts that it knows, which tests may change while it runs."""

    issuer: str
    directory: Path
    client_url: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            "OIDC_ISSUER": self.issuer,
            "OIDC_CLIENT_ID": "vodbucket",
            "OIDC_CLIENT_SECRET": SECRET,
            "OIDC_NAME": "Example",
        }

    def set_accounts(self, **accounts: Mapping[str, object]) -> None:
        (self.directory / "accounts.json").write_text(json.dumps(accounts))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it while the block lasts. Each time it has a new key."""
        port = self.issuer.rpartition(":")[2]
        node = shutil.which("node", path=f"{REPOSITORY}/.venv/bin") or shutil.which("node")
        if node is None or not (CLIENTS / "node_modules/oidc-provider").is_dir():
            missing("no oidc-provider: make prepare-site")
        argv = (node, CLIENTS / "provider.mjs", port, self.directory / "accounts.json", self.client_url)
        with running(argv, url=f"{self.issuer}/jwks", log=self.directory / "provider.log"):
            yield


def lab_provider(directory: Path, client_url: str) -> LabProvider:
    """Return a provider that does not run yet. `client_url` is the server at which people sign in."""
    provider = LabProvider(f"http://127.0.0.1:{free_port()}", directory, client_url)
    provider.set_accounts(anna=ANNA)
    return provider


async def sign_in_there(url: str, login: str, client_url: str) -> str:
    """Sign in and consent on the provider's pages. Return the address to which it sends the browser back."""
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        answer = await browser.get(url)
        for _ in range(10):
            while answer.is_redirect:
                url = str(answer.next_request and answer.next_request.url)
                if url.startswith(client_url):
                    return url
                answer = await browser.get(url)
            action = re.search(r'action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert action is not None, answer.text
            assert prompt is not None, answer.text
            form = {"prompt": prompt[1], "login": login, "password": "x"}
            answer = await browser.post(action[1], data=form)
    raise AssertionError("the provider does not send the browser back")
