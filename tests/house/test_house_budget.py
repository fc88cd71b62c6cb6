"""The house stays small: short files, short functions, few parameters, no cupboards."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "metainf"
FILES = sorted(SOURCE.rglob("*.py"))
LINES, FUNCTION_LINES, PARAMETERS = 300, 60, 7
CUPBOARDS = {"utils", "util", "common", "helpers", "helper", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def parameters(node: Function) -> list[str]:
    found = node.args
    every = [*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg]
    return [each.arg for each in every if each is not None and each.arg not in ("self", "cls")]


def commands(path: Path) -> set[str]:
    """Names of the functions of a file that typer runs: decorated with, or passed to, `X.command(...)`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function) and any("command" in ast.unparse(d) for d in node.decorator_list):
            found.add(node.name)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(")") and node.args:
            call = ast.unparse(node.func)
            if ".command(" in call and isinstance(node.args[0], ast.Name):
                found.add(node.args[0].id)
    return found


def test_there_is_a_house() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_budget(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES, f"expected at most {LINES} lines, found {lines}: split {path.name}"
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno is not None}
    long = {name: count for name, count in long.items() if count > FUNCTION_LINES}
    allowed = commands(path) if path.is_relative_to(SOURCE / "cli") else set()
    long = {name: count for name, count in long.items() if name not in allowed}
    assert not long, f"expected functions of at most {FUNCTION_LINES} lines, found {long}"
    many = {f.name: len(parameters(f)) for f in functions(path) if f.name not in allowed}
    many = {name: count for name, count in many.items() if count > PARAMETERS}
    assert not many, f"expected at most {PARAMETERS} parameters, found {many}"


def test_no_file_is_named_after_a_cupboard() -> None:
    named = [path for path in SOURCE.rglob("*") if path.stem.lower() in CUPBOARDS]
    assert not named, f"name these after what they hold: {named}"
