"""The arrows between packages, the single doorways, and what must never be in the tree."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backend", "worker", "vodbucket", "infra")
WEB_FRAMEWORKS = ("litestar", "starlette", "fastapi", "uvicorn")


def _modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    return chain.from_iterable(map(_modules_of, packages))


@cache
def _modules_of(package: str) -> list[tuple[str, ast.Module]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths]


@cache
def _imports(tree: ast.Module) -> set[str]:
    """Full dotted names, those of `from a import b` as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _importers(prefix: str, *packages: str) -> list[str]:
    return [
        path
        for path, tree in _modules(*packages)
        if any(name == prefix or name.startswith(f"{prefix}.") for name in _imports(tree))
    ]


STACK = (
    "vodbucket",
    "vodbucket/commands",
    "vodbucket/output",
    "vodbucket/doctor",
    "vodbucket/client",
    "worker",
    "worker/run",
    "worker/webhooks",
    "worker/fetch",
    "worker/units",
    "worker/transcode",
    "worker/output",
    "worker/encode",
    "worker/source/index",
    "worker/source",
    "worker/sandbox",
    "backend",
    "backend/routes",
    "backend/web",
    "backend/web/server",
    "backend/images",
    "backend/following",
    "backend/playback",
    "backend/openid",
    "backend/core/sweep",
    "backend/core/uploads/resumable",
    "backend/core/uploads",
    "backend/core/jobs",
    "backend/core/access",
    "backend/core/events",
    "backend/core/library",
    "backend/core/store/s3",
    "backend/core/store",
    "backend/core",
)
"""Folders of the product, top to bottom. A folder imports only from folders below it."""


def _module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _import_graph() -> dict[str, set[str]]:
    """Map each module of the product to the modules of the product that it imports."""
    trees = {_module_of(path): tree for path, tree in _modules("backend", "worker", "vodbucket")}
    graph: dict[str, set[str]] = {}
    for module, tree in trees.items():
        names = _imports(tree)
        found = {name if name in trees else name.rpartition(".")[0] for name in names}
        graph[module] = (found & trees.keys()) - {module}
    return graph


def _folder_of(module: str) -> str:
    path = module.replace(".", "/")
    return path if (ROOT / path).is_dir() else path.rpartition("/")[0]


def _folder_graph() -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for module, imported in _import_graph().items():
        folder = _folder_of(module)
        folders.setdefault(folder, set()).update({_folder_of(one) for one in imported} - {folder})
    return folders


def test_folders_import_only_from_folders_below_them() -> None:
    """`pytest -s tests/test_architecture.py` prints the stack."""
    graph = _folder_graph()
    assert sorted(graph) == sorted(STACK)
    for folder in STACK:
        purpose = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
        assert purpose, f"{folder}/__init__.py says in one line what the folder is for"
        below = [one for one in STACK if one in graph[folder]]
        sys.stdout.write(f"\n{folder}: {purpose.splitlines()[0]}\n")
        sys.stdout.write(f"    imports {', '.join(below) or 'nothing'}\n")
        upward = [one for one in below if STACK.index(one) < STACK.index(folder)]
        assert not upward, f"{folder} imports from above: {upward}"


def test_no_module_is_part_of_an_import_circle() -> None:
    graph = _import_graph()

    with_order = TopologicalSorter(graph)

    with_order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("foreign", ["litestar", "uvicorn", "subprocess", "infra"])
def test_core_imports_no(foreign: str) -> None:
    assert _importers(foreign, "backend/core") == []


@pytest.mark.parametrize("package", ["worker", "vodbucket"])
def test_imports_nothing_of_the_backend_but_core(package: str) -> None:
    for path, tree in _modules(package):
        of_backend = {name for name in _imports(tree) if name.split(".")[0] == "backend"}
        assert all(name.startswith("backend.core.") for name in of_backend), path


@pytest.mark.parametrize("foreign", ["worker", "vodbucket", "infra", "tests"])
def test_api_imports_no(foreign: str) -> None:
    assert _importers(foreign, "backend") == []


def test_nothing_imports_the_command_line() -> None:
    assert _importers("vodbucket", "worker", "infra") == []


def test_worker_and_command_line_do_not_import_infra() -> None:
    assert _importers("infra", "worker", "vodbucket") == []


def test_only_the_store_knows_the_sdk() -> None:
    for sdk in ("aiobotocore", "botocore", "boto3"):
        assert all(path.startswith("backend/core/store/s3/") for path in _importers(sdk, *PACKAGES)), sdk


def test_the_api_and_the_worker_spawn_processes_in_one_module_each() -> None:
    doorways = {"worker/sandbox/process.py", "backend/images/rewriting.py"}
    assert set(_importers("subprocess", "backend", "worker", "vodbucket")) <= doorways
    for path, tree in _modules("backend", "worker", "vodbucket"):
        if path not in doorways:
            called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not {name for name in called if "create_subprocess" in name or name == "os.system"}, path


def test_only_composition_roots_read_the_environment() -> None:
    roots = {
        "backend/core/settings.py",
        "backend/__main__.py",
        "backend/asgi.py",
        "worker/__main__.py",
        "vodbucket/__main__.py",
        "infra/local/__main__.py",
        "infra/local/plan.py",
        "infra/local/store_server.py",
    }
    for path, tree in _modules(*PACKAGES):
        if path not in roots:
            read = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert not read & {"os.environ", "os.getenv"}, path


def test_the_program_that_reads_hostile_images_imports_nothing_of_ours() -> None:
    [tree] = [tree for path, tree in _modules("backend") if path == "backend/images/rewriter.py"]

    assert not [name for name in _imports(tree) if name.split(".")[0] in PACKAGES]


def test_only_keys_builds_object_keys() -> None:
    prefixes = re.compile(
        r"(uploads|queue|leases|failed|doctor|catalog|videos|images|events|webhooks|keys|sessions"
        r"|access-codes)/"
    )
    for path, tree in _modules("backend", "worker", "vodbucket"):
        if path == "backend/core/keys.py":
            continue
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        built = [
            piece.value
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for piece in node.values
            if isinstance(piece, ast.Constant) and id(piece) not in docstrings
            if prefixes.match(str(piece.value))
        ]
        assert not built, f"{path} builds a key: {built}"


def test_worker_starts_without_a_web_framework() -> None:
    code = f"import sys, worker.__main__; print([name for name in {WEB_FRAMEWORKS} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (loaded.stdout.strip(), loaded.stderr) == ("[]", "")


def test_command_line_starts_without_the_worker_and_a_web_framework() -> None:
    names = (*WEB_FRAMEWORKS, "worker")
    code = f"import sys, vodbucket.__main__; print([name for name in {names} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (loaded.stdout.strip(), loaded.stderr) == ("[]", "")


@pytest.mark.parametrize("package", ["backend", "backend/core", "worker", "vodbucket"])
def test_packages_import_nothing_themselves(package: str) -> None:
    assert _imports(ast.parse((ROOT / package / "__init__.py").read_text())) == set()


def test_test_directories_are_packages() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_no_module_shadows_the_standard_library() -> None:
    for path, _ in _modules(*PACKAGES, "tests"):
        name = Path(path).parent.name if path.endswith("__init__.py") else Path(path).stem
        assert name in ("__main__",) or name not in sys.stdlib_module_names, path


def test_no_vague_module_names() -> None:
    for path, _ in _modules(*PACKAGES):
        assert Path(path).stem not in {"utils", "helpers", "common", "manager", "base", "misc"}, path


def _tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("a source archive has no list of its own files")  # in CI too: nothing there to check
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_tree_names_no_package_registry() -> None:
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
    hosts += [".".join(parts) for parts in (("npmjs", "com"), ("yarnpkg", "com"), ("proxy", "golang", "org"))]
    for path in _tracked_files():
        text = path.read_bytes().decode(errors="replace")
        assert not [host for host in hosts if host in text], path


def test_lock_files_record_no_addresses() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in _tracked_files()}

    assert "uv.lock" not in names
    if "frontend/package-lock.json" in names:
        assert '"resolved"' not in (ROOT / "frontend/package-lock.json").read_text()
