"""A real nginx in front of the API, with the configuration that the README gives."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.missing import missing
from tests.lab.product import REPOSITORY
from tests.lab.server import free_port, running

_CONFIGURATION = """daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {servers}
}}
"""


def documented() -> str:
    """Return the README's `location`."""
    found = re.search(r"^```nginx\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.M | re.S)
    assert found is not None
    return found[1]


@contextmanager
def nginx(directory: Path, api_port: int, *locations: str) -> Iterator[list[int]]:
    """Serve each location on a port of its own while the block lasts. The README's port becomes `api_port`.

    `directory` gets an access log.
    """
    executable = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if executable is None:
        missing("no nginx: install the package nginx")
    ports = [free_port() for _ in locations]
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port}; {location.replace(':3000', f':{api_port}')} }}"
        for port, location in zip(ports, locations, strict=True)
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(servers=servers))
    argv = (executable, "-p", directory, "-c", configuration, "-e", "stderr")
    with running(argv, url=f"http://127.0.0.1:{ports[0]}/", log=directory / "nginx.log"):
        yield ports
