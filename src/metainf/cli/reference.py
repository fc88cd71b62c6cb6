"""The command line as a page of Markdown, from the commands themselves: `python -m metainf.cli.reference`."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo

HEAD = """\
# The command line

Written by `python -m metainf.cli.reference`; a test fails where it is stale. `metainf` stands for `./run`
in a checkout. Exit codes: 0 answered, 1 no answer (nothing feasible, not supported, a store that
refuses), 2 a question that cannot be understood. `metainf --install-completion` makes your shell complete
commands, options and names.
"""
WORDS = {int: "NUMBER", float: "NUMBER"}


@dataclass(frozen=True)
class Entry:
    """One argument or option: how it is written, what it means, what it is when left out."""

    names: str
    word: str
    is_argument: bool
    meaning: str
    default: str


def page() -> str:
    """The whole page."""
    from metainf.cli.app import app

    parts = [part for path, command in leaves(app, "metainf") for part in section(path, command)]
    return "\n".join([HEAD, *parts])


def leaves(app: typer.Typer, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command that does something, with the words that call it."""
    for command in app.registered_commands:
        if command.callback is not None:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield f"{path} {name}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from leaves(group.typer_instance, f"{path} {group.name}")


def section(path: str, command: Callable[..., Any]) -> Iterator[str]:
    """Heading, what the command does, and a table of its arguments and options."""
    found = [entry(parameter) for parameter in inspect.signature(command, eval_str=True).parameters.values()]
    words = " ".join(each.word for each in found if each.is_argument)
    yield f"## {path}\n"
    yield f"{' '.join((command.__doc__ or '').split())}\n"
    yield f"`{path}{f' {words}' if words else ''} [OPTIONS]`\n"
    yield "| | | default |\n| --- | --- | --- |"
    for each in found:
        yield f"| {each.names} | {each.meaning} | {each.default} |"
    yield ""


def entry(parameter: inspect.Parameter) -> Entry:
    """What one parameter of a command says of itself."""
    hint, *told = get_args(parameter.annotation) if get_origin(parameter.annotation) is Annotated else (str,)
    info: Any = told[0] if told else ArgumentInfo()
    kind, many = _kind(hint)
    required = parameter.default is inspect.Parameter.empty
    default = "required" if required else _default(parameter.default)
    argument = isinstance(info, ArgumentInfo)
    word = parameter.name.upper().strip("_") + ("..." if many else "")
    word = word if required else f"[{word}]"
    meaning = [" ".join((info.help or "").split()).replace("|", "\\|")]
    meaning += ["May be given several times."] if many and not argument else []
    meaning += [f"At least {info.min}."] if info.min is not None else []
    meaning += [f"Environment: `{info.envvar}`."] if info.envvar else []
    flags = _flags(info) or [f"--{parameter.name.replace('_', '-')}"]
    value = "" if kind is bool else f" {WORDS.get(kind, 'TEXT')}"
    names = f"`{word}`" if argument else ", ".join(f"`{flag}{value}`" for flag in flags)
    return Entry(names, word, argument, " ".join(part for part in meaning if part), default)


def _flags(info: Any) -> list[str]:
    """Names given to an option; inside Annotated the first of them lands in the place of the default."""
    return [name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("-")]


def _kind(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there may be several."""
    if isinstance(hint, UnionType):
        hint = next(each for each in get_args(hint) if each is not NoneType)
    return (get_args(hint)[0], True) if get_origin(hint) is list else (hint, False)


def _default(value: object) -> str:
    return "" if value in (None, False, "") else f"`{value}`"


if __name__ == "__main__":
    print(page(), end="")
