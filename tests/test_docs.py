"""The documentation says what the code does: every setting, route, error and command, and nothing more."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import typer
from pydantic_core import PydanticUndefined

from backend.core.errors import VodbucketError
from backend.core.records import Stage, Status
from backend.core.settings import ApiSettings, ClientSettings, StoreSettings, WorkerSettings
from backend.core.store.probes import PROBES
from backend.openapi import describe
from backend.web import error_responses
from tests.test_architecture import STACK
from vodbucket.__main__ import app

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {
    name: field
    for settings in (StoreSettings, ApiSettings, WorkerSettings, ClientSettings)
    for name, field in settings.model_fields.items()
}
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEN_MINUTES_OF_WORDS = 2400
BUILT_SITE = "frontend/dist"
# Variables that the product's launchers pass on or that others define; they are not our settings.
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
    pages = (ROOT / "README.md", ROOT / "docs/sign-in.md")
    return dict(row.findall("\n".join(page.read_text() for page in pages)))


def _as_written(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_documentation_lists_exactly_the_settings() -> None:
    assert set(_settings_table()) == {name.upper() for name in FIELDS}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_documentation_states_the_default_of(name: str) -> None:
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
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("api*.md"))
    documented = set(re.findall(r"^### `([A-Z]+) (\S+)`$", pages, re.MULTILINE))

    assert documented == _routes()


def _routes() -> set[tuple[str, str]]:
    """Method and path of every route, as the API's own description has them."""
    paths = json.loads(describe())["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    return routes | {("GET", "/schema"), ("WS", "/api/ws")}  # OpenAPI knows neither itself nor WebSockets


def test_operations_document_every_command_and_option_of_the_command_line() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = dict(group.commands)
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            commands |= {f"{name} {part}": inner for part, inner in command.commands.items()}

    for name, command in commands.items():
        assert f"vodbucket {name}" in text or f"`{name}" in text
        for parameter in command.params:
            if isinstance(parameter, typer.core.TyperOption):
                names = (*parameter.opts, *parameter.secondary_opts)  # of a switch one of the two is enough
                assert any(f"`{option}`" in text or f" {option} " in text for option in names), names


def test_operations_name_every_probe_of_the_doctor() -> None:
    named = (ROOT / "docs/operations.md").read_text().partition("\n## What the doctor checks\n")[2]
    names = {probe.name.removesuffix(", raw bucket").removesuffix(", video bucket") for probe in PROBES}

    assert [name for name in names if f"`{name}`" not in named] == []


def test_api_documentation_lists_every_error_code_with_its_status() -> None:
    section = (ROOT / "docs/errors.md").read_text()
    documented = {
        (code, int(status))
        for line in re.findall(r"^- .*$", section, re.M)
        for status, names in re.findall(r"\b([45]\d\d) ((?:`[a-z_]+`(?:, )?)+)", line)
        for code in re.findall(r"`([a-z_]+)`", names)
    }

    assert documented == set(_error_codes())


def _error_codes() -> Iterator[tuple[str, int]]:
    """Yield code and status of every error that the API answers with."""
    for error in _subclasses(VodbucketError):
        for ancestor in error.__mro__:
            if (status := error_responses.STATUS_OF.get(ancestor)) is not None:
                yield error.code, int(status)
                break
    for status, code in error_responses._CODE_OF_STATUS.items():
        yield code, int(status)
    yield from (("invalid_request", 400), (VodbucketError.code, 500))


def _subclasses(error: type[VodbucketError]) -> Iterator[type[VodbucketError]]:
    yield error
    for child in error.__subclasses__():
        yield from _subclasses(child)


def test_objects_document_every_field_and_stage_of_a_status() -> None:
    section = (ROOT / "docs/objects.md").read_text().partition("\n## Status\n")[2]
    cells = re.findall(r"^- (`.*?): ", section, re.M)
    stages = section.partition("; `status`")[0]

    fields = re.findall(r"`(\w+)`", " ".join(cells))
    assert sorted([*fields, "stage", "status"]) == sorted(Status.model_fields.keys() - {"schema_version"})
    assert re.findall(r"`(\w+)`", stages)[1:] == [stage.value for stage in Stage]


def test_architecture_draws_every_folder_of_the_stack() -> None:
    drawing = (ROOT / "docs/architecture.md").read_text().partition("```")[2].partition("```")[0]
    drawn = re.findall(r"\b(?:vodbucket|worker|backend)(?:/[a-z0-9]+)*(?= {2,})", drawing)

    assert sorted(drawn) == sorted(STACK)
    for half in ("worker", "backend"):
        folders = [folder for folder in STACK if folder.partition("/")[0] == half]
        assert [folder for folder in drawn if folder.partition("/")[0] == half] == folders


def test_architecture_gives_a_reason_for_every_dependency() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("\n## Dependencies\n")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=; ]", one)[0] for one in required}

    assert sorted(names - set(re.findall(r"`([a-z0-9-]+)`", section))) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:backend|worker|vodbucket|infra|tests|bench|frontend)/[\w./-]*)`", page.read_text()
    )

    assert [name for name in named if name != BUILT_SITE and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_can_be_read_in_ten_minutes(page: Path) -> None:
    assert len(page.read_text().split()) <= TEN_MINUTES_OF_WORDS, "make two pages of it"


def test_readme_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [page.name for page in PAGES[1:] if f"](docs/{page.name})" not in readme] == []


def test_links_between_documents_lead_somewhere() -> None:
    for document in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text()):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name} links to {target}"
            if anchor:
                assert anchor in _anchors(page), f"{document.name} links to {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
