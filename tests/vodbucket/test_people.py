"""`vodbucket people` against an API."""

import json

import pytest
from typer.testing import CliRunner, Result

from tests.lab.product import ADMIN_TOKEN, Product
from vodbucket.__main__ import app
from vodbucket.client.errors import RequestRejected, TokenRejected


def test_people_are_let_in_and_out_again(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VODBUCKET_URL", product.url)

    def run(token: str, *arguments: str) -> Result:
        monkeypatch.setenv("ADMIN_TOKEN", token)
        return CliRunner().invoke(app, arguments)

    added = run(ADMIN_TOKEN, "people", "add", "Anna", "--role", "uploader")
    person, token = added.stderr.removeprefix("added: ").strip(), added.stdout.strip()
    assert run(token, "list").exit_code == 0
    assert isinstance(run(token, "people", "list").exception, RequestRejected)

    renewed = run(ADMIN_TOKEN, "people", "token", person).stdout.strip()
    assert isinstance(run(token, "list").exception, TokenRejected)
    assert run(renewed, "list").exit_code == 0

    assert run(ADMIN_TOKEN, "people", "revoke", person).stdout == f"revoked: {person}\n"
    assert isinstance(run(renewed, "list").exception, TokenRejected)
    listed = json.loads(run(ADMIN_TOKEN, "people", "list", "--json").stdout)
    assert [(one["name"], one["revoked"]) for one in listed if one["id"] == person] == [("Anna", True)]
    assert "revoked" in run(ADMIN_TOKEN, "people", "list").stdout
    assert "token" in json.loads(run(ADMIN_TOKEN, "people", "add", "Ben", "--json").stdout)
