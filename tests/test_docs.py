"""The documentation says what the code does: every setting and every route is in it, and nothing more."""

import ast
import json
import re
from pathlib import Path

import pytest
import typer
from pydantic_core import PydanticUndefined

from backend.core.settings import ApiSettings, ClientSettings, StoreSettings, WorkerSettings
from backend.core.store.probes import PROBES
from backend.openapi import describe
from vodbucket.__main__ import app

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {
    name: field
    for settings in (StoreSettings, ApiSettings, WorkerSettings, ClientSettings)
    for name, field in settings.model_fields.items()
}
# Variables that the product's launchers pass on or that others define; they are no settings of ours.
FOREIGN_VARIABLES = {
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "PATH",
    "PYTHONUNBUFFERED",
    "TMPDIR",
}


def _settings_table() -> dict[str, str]:
    row = re.compile(r"^\| `([A-Z0-9_]+)` \| (.*?) \| .* \|$", re.MULTILINE)
    return dict(row.findall((ROOT / "README.md").read_text()))


def _as_written(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_readme_lists_exactly_the_settings() -> None:
    assert set(_settings_table()) == {name.upper() for name in FIELDS}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_readme_states_the_default_of(name: str) -> None:
    default = FIELDS[name].default
    stated = _settings_table()[name.upper()]
    if default is PydanticUndefined:
        assert stated.startswith("required")
    elif default not in (None, ()):
        assert stated == f"`{_as_written(default)}`"


def test_env_example_lists_exactly_the_settings() -> None:
    listed = re.findall(r"^# ([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted(name.upper() for name in FIELDS)


def test_env_example_states_the_defaults() -> None:
    lines = dict(re.findall(r"^# ([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))

    for name, field in FIELDS.items():
        if field.default not in (None, (), PydanticUndefined):
            assert lines[name.upper()] == _as_written(field.default)


def test_every_variable_that_is_read_is_documented() -> None:
    documented = {name.upper() for name in FIELDS} | FOREIGN_VARIABLES
    read = {
        (path.relative_to(ROOT).as_posix(), name)
        for package in ("backend", "worker", "vodbucket", "infra")
        for path in (ROOT / package).rglob("*.py")
        for name in _variables_read(ast.parse(path.read_text()))
    }

    assert [entry for entry in sorted(read) if entry[1] not in documented] == []


def _variables_read(tree: ast.AST) -> set[str]:
    """Names read as `environ["NAME"]`, `env.get("NAME")` or `getenv("NAME")`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            source, key = node.value, node.slice
        elif isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
            source = node.func if node.func.attr == "getenv" else node.func.value
            key = node.args[0]
        else:
            continue
        if ast.unparse(source).endswith(("environ", "env", "getenv")) and isinstance(key, ast.Constant):
            names.add(str(key.value))
    return names


def test_every_target_of_make_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None

    assert set(re.findall(r"^([a-z0-9-]+):.*?## .+$", makefile, re.MULTILINE)) == set(phony[1].split())


def test_api_documentation_lists_exactly_the_routes() -> None:
    documented = set(re.findall(r"^### `([A-Z]+) (\S+)`$", (ROOT / "docs/api.md").read_text(), re.MULTILINE))

    assert documented == _routes()


def _routes() -> set[tuple[str, str]]:
    """Method and path of every route, as the API's own description has them."""
    paths = json.loads(describe())["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    return routes | {("GET", "/schema")}  # it does not describe itself


def test_operations_document_every_command_and_option_of_the_command_line() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)

    for name, command in group.commands.items():
        assert f"vodbucket {name}" in text
        for parameter in command.params:
            if isinstance(parameter, typer.core.TyperOption):
                names = (*parameter.opts, *parameter.secondary_opts)  # of a switch one of the two is enough
                assert any(f"`{option}`" in text or f" {option} " in text for option in names), names


def test_operations_show_every_probe_of_the_doctor() -> None:
    text = (ROOT / "docs/operations.md").read_text()

    assert [probe.name for probe in PROBES if text.count(f"  {probe.name} ") != 3] == []


def test_links_between_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
