"""What to run: the environment of the product's processes, checked before any of them starts."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import ConfigurationError
from backend.core.settings import OWN_STORE_VARIABLES, ApiSettings, WorkerSettings, load
from infra.local.children import Command
from infra.local.data import DataDirectory
from infra.local.dotenv import read_dotenv
from infra.local.errors import CannotRun
from infra.local.store import EmbeddedStore, choose_store, port_is_free

_FOR_OPERATORS = {
    name.upper()
    for kind in (ApiSettings, WorkerSettings)
    for name in kind.model_fields
    if name != "admin_token"
}
API_STOP_SECONDS = 10.0
WORKER_STOP_SECONDS = 22.0
"""A worker has 20 s to release its jobs."""
SITE_STOP_SECONDS = 3.0
SITE_DEV_PORT = 5173


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `make run` starts, checked."""

    checkout: Path
    env: Mapping[str, str]
    api_settings: ApiSettings
    embedded: EmbeddedStore | None
    """None if the environment selects a store."""

    @property
    def url(self) -> str:
        """The API's address for a browser on this machine."""
        host, port = self.api_settings.listens_at
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"

    @property
    def store_name(self) -> str:
        if self.embedded:
            return f"embedded, at {self.embedded.url}"
        return str(self.api_settings.s3_endpoint_url or f"AWS S3 in {self.api_settings.aws_region}")

    def api(self) -> Command:
        return self._python("api", "backend", API_STOP_SECONDS)

    def worker(self) -> Command:
        return self._python("worker", "worker", WORKER_STOP_SECONDS)

    def site(self) -> Command:
        """The site's development server, which passes API routes on to ours."""
        vite = ("node", "node_modules/vite/bin/vite.js", "--port", str(SITE_DEV_PORT), "--strictPort")
        env = {**self.env, "API_URL": self.url}
        return Command("site", vite, env, self.checkout / "frontend", SITE_STOP_SECONDS)

    def _python(self, name: str, package: str, stop_seconds: float) -> Command:
        return Command(name, (sys.executable, "-m", package), self.env, self.checkout, stop_seconds)


def make_plan(checkout: Path, data: DataDirectory, environ: Mapping[str, str]) -> Plan:
    """Work out the environment from `environ`, `.env` and what the data directory keeps, and check it.

    Raises:
        CannotRun: a setting is wrong, or the port is taken.
    """
    env = {**read_dotenv(checkout / ".env"), **environ}
    embedded = None if any(env.get(name) for name in OWN_STORE_VARIABLES) else choose_store(data)
    if embedded:
        env.update(embedded.client_settings())
        data.write_settings({name: value for name, value in env.items() if name in _FOR_OPERATORS})
    if not env.get("ADMIN_TOKEN"):
        env["ADMIN_TOKEN"] = data.admin_token()
    port = (env.get("PORT") or (env.get("VIDEO_SERVER_ADDR") or "3000").rpartition(":")[2]).strip()
    # Of a wrong PORT, only PORT is to be reported.
    if not env.get("CORS_ORIGINS") and port.isdecimal() and len(port) <= 5:
        env["CORS_ORIGINS"] = f"http://127.0.0.1:{port},http://localhost:{port}"
    if not env.get("DOORBELL") and not env.get("DOORBELLS"):
        env["DOORBELL"] = env["DOORBELLS"] = _free_address()
    env["PYTHONUNBUFFERED"] = "1"
    settings = _checked_settings(env)
    host, number = settings.listens_at
    if not port_is_free(host, number):
        raise CannotRun(
            f"Port {number} is taken by another program: end that, or choose another port, "
            f"for example `make run PORT={number + 1}`."
        )
    return Plan(checkout, env, settings, embedded)


def _free_address() -> str:
    """Return an address for datagrams. If another program takes it meanwhile, jobs wait for polls."""
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return "{}:{}".format(*found.getsockname())


def _checked_settings(env: Mapping[str, str]) -> ApiSettings:
    """Load the settings as the processes will. It puts them into our own environment, which we hand on."""
    os.environ.update(env)
    try:
        load(WorkerSettings)
        return load(ApiSettings)
    except ConfigurationError as error:
        raise CannotRun(f"Wrong setting: {error.message}.") from None
