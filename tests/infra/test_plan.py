"""The environment of the processes that `make run` starts."""

import os
from pathlib import Path

import pytest

from infra.local.data import DataDirectory
from infra.local.plan import Plan, make_plan
from tests.infra.checkout import CHECKOUT
from tests.lab.server import free_port


def _plan(root: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> Plan:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the plan adds to it
    data = DataDirectory(root)
    with data.lock():
        return make_plan(
            CHECKOUT, data, {"S3_ENDPOINT_URL": "http://store.example", "PORT": str(free_port()), **environ}
        )


def test_the_api_rings_the_worker_of_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = _plan(tmp_path, monkeypatch).env

    assert env["DOORBELL"].startswith("127.0.0.1:")
    assert env["DOORBELLS"] == env["DOORBELL"]


def test_a_doorbell_of_the_environment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = _plan(tmp_path, monkeypatch, DOORBELLS="workers:7000").env

    assert env["DOORBELLS"] == "workers:7000"
    assert "DOORBELL" not in env
