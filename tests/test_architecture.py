"""Data flow in one direction, as the imports must show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "softvq_cli"
STAGES = (
    ("words", "version", "errors", "process", "ranges", "files", "sharing", "npy", "reporter"),
    ("config", "presets"),
    ("datasets",),
    ("devices", "model"),
    ("training",),
    ("embeddings",),
    ("evaluation", "plots"),
    ("results",),
    ("experiments",),
    ("estimators", "api", "layers", "__init__"),
    ("cli",),
    ("__main__",),
)
"""A module imports only from the line of its own stage or from those before."""
RANK = {name: rank for rank, stage in enumerate(STAGES) for name in stage}


def modules() -> dict[str, Path]:
    """Dotted name → file, of the whole package."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """All imports from the package in a file, anywhere and for any purpose."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("softvq_cli"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("softvq_cli"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


GRAPH = {name: {one for one in imports(path) if one != name} for name, path in MODULES.items()}


def stage(module: str) -> str:
    """``softvq_cli.model.encoder`` → ``model``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_module_belongs_to_a_stage():
    assert {stage(name) for name in MODULES} == set(RANK)


@pytest.mark.parametrize("name", GRAPH)
def test_a_module_imports_only_from_its_stage_or_from_the_left(name):
    back = [one for one in GRAPH[name] if RANK[stage(one)] > RANK[stage(name)]]
    assert not back, f"{name} imports {', '.join(back)}, which comes after it"


def test_no_imports_run_in_a_circle():
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == "open":
            pytest.fail(f"a circle: {' → '.join((*path[path.index(name) :], name))}")
        if name not in state:
            state[name] = "open"
            for one in sorted(GRAPH[name]):
                visit(one, (*path, name))
            state[name] = "done"

    for name in GRAPH:
        visit(name, ())


CORE = {name: path for name, path in MODULES.items() if stage(name) not in ("cli", "__main__")}


@pytest.mark.parametrize("name", CORE)
def test_the_core_prints_nothing_and_knows_no_command_line(name):
    tree = ast.parse(CORE[name].read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not [one for one in named if one.split(".")[0] in ("typer", "rich")], ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit"), ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            assert not re.search(r"(^|[\s(])--[a-zA-Z]", node.value), f"line {node.lineno}: {node.value!r}"


def test_no_test_module_imports_another():
    tests = Path(__file__).parent
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                last = str(node.module).split(".")[-1]
                assert not last.startswith(("test_", "conftest")), f"{path.relative_to(tests)} imports {node.module}"
