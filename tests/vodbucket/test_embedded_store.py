"""Commands for operators find the store of `make run` in the working directory."""

from pathlib import Path

import pytest

from backend.core.errors import ConfigurationError
from infra.local.data import DataDirectory
from tests.lab.server import StoreServer, free_port
from tests.vodbucket.conftest import REPOSITORY, Installation, installation_on
from vodbucket.commands.embedded_store import find_embedded_store


def _keep(directory: Path, **settings: str) -> Path:
    """Write the settings as `make run` does, and return the file."""
    data = DataDirectory(directory / "data")
    data.store.mkdir(parents=True)
    data.write_settings(settings)
    return data.store / "env"


@pytest.mark.heavy
@pytest.mark.parametrize("command", [("jobs",), ("sweep", "--dry-run"), ("retry", "--failed")])
async def test_commands_use_it_without_any_setting(
    moto_server: StoreServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    installation = installation_on(moto_server, tmp_path)
    await installation.doctor("--fix", "--no-worker")
    kept, rest = {}, {}
    for name, value in installation.environment.items():
        of_store = name.startswith(("S3_", "AWS_ACCESS", "AWS_SECRET"))
        (kept if of_store else rest)[name] = value
    _keep(tmp_path, **kept)

    done = await Installation(rest).run("vodbucket", *command, directory=tmp_path, PYTHONPATH=str(REPOSITORY))

    assert (done.status, done.err) == (0, f"Using the store of `make run` in {tmp_path / 'data'}.\n")


def test_the_environment_wins(moto_server: StoreServer, tmp_path: Path) -> None:
    kept = _keep(tmp_path, S3_ENDPOINT_URL=moto_server.endpoint_url, S3_RAW_BUCKET="kept", LEASE_SECONDS="9")
    elsewhere = {"AWS_PROFILE": "mine"}
    here = {"LEASE_SECONDS": "30", "S3_RAW_BUCKET": ""}

    find_embedded_store(elsewhere, kept)
    find_embedded_store(here, kept)

    assert elsewhere == {"AWS_PROFILE": "mine"}
    assert here == {
        "S3_ENDPOINT_URL": moto_server.endpoint_url,
        "S3_RAW_BUCKET": "kept",
        "LEASE_SECONDS": "30",
    }


def test_a_store_that_is_not_running_is_said(tmp_path: Path) -> None:
    kept = _keep(tmp_path, S3_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    on_aws = {"S3_RAW_BUCKET": "mine"}

    with pytest.raises(
        ConfigurationError, match=f"the store of `make run` in {tmp_path}/data is not running"
    ):
        find_embedded_store({}, kept)
    find_embedded_store(on_aws, kept)

    assert on_aws == {"S3_RAW_BUCKET": "mine"}


def test_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    environ: dict[str, str] = {}

    find_embedded_store(environ, tmp_path / "env")

    assert environ == {}


@pytest.mark.parametrize(
    "content",
    [
        b"no equals sign",
        b"A='unclosed",
        b"\xff=1",
        b"S3_ENDPOINT_URL=http://a:x",
        b"S3_ENDPOINT_URL=http://[a",
    ],
)
def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "env").write_bytes(content)

    with pytest.raises(ConfigurationError, match="env cannot be read"):
        find_embedded_store({}, tmp_path / "env")


@pytest.mark.parametrize("hours", ["1e300", "nan", "inf", "-1"])
async def test_an_impossible_grace_is_one_sentence(
    tmp_path: Path, moto_server: StoreServer, hours: str
) -> None:
    done = await installation_on(moto_server, tmp_path).vodbucket("sweep", "--grace", hours)

    assert done.status == 2
    assert "Traceback" not in done.err
    assert "--grace" in done.err or "hours" in done.err
