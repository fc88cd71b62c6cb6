"""Everything that MetaInf may install has a licence that asks for little more than its own text to be kept.

Read from the metadata of what is installed, so a machine with all extras checks all of them. What has another
licence, or tells none, is named here with the reason why it may stay.
"""

import re
from collections.abc import Iterator
from importlib import metadata

import pytest

requirements = pytest.importorskip("packaging.requirements")

PERMISSIVE = {
    "0BSD", "3-Clause BSD License", "Apache", "Apache 2.0", "Apache 2.0 License", "Apache License 2.0",
    "Apache License, Version 2.0", "Apache Software License", "Apache-2.0", "LLVM-exception", "BSD",
    "BSD License", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "Boost Software License 1.0 (BSL-1.0)", "CC0-1.0", "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",
    "CNRI-Python", "HPND", "ISC", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0", "MIT-CMU", "PSF-2.0",
    "Python Software Foundation License", "The Unlicense (Unlicense)", "Unlicense", "Zlib", "ZPL-2.1",
    "Zope Public License", "Public Domain",
}  # fmt: skip
FILE_BY_FILE = "MPL-2.0 binds changes of its own files; they are used unchanged"
EXCEPTIONS = {
    "certifi": FILE_BY_FILE,
    "pathspec": FILE_BY_FILE,
    "tqdm": FILE_BY_FILE,
    "hypothesis": FILE_BY_FILE + ", in tests only",
    "psycopg": "LGPL-3.0, an extra that is imported as it is and can be replaced",
    "psycopg-binary": "the same",
    "torchao": "BSD-3-Clause in its licence file; its metadata names none",
    "axe-playwright-python": "Apache-2.0 in its licence file; its metadata names none; in tests only",
}
SPLIT = re.compile(r"\s+(?:AND|OR|WITH)\s+|\s*/\s*")


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def licences(told: metadata.PackageMetadata) -> set[str]:
    """Every licence that a distribution names, the best kept field first."""
    if expression := told.get("License-Expression"):
        return {each.strip("() ") for each in SPLIT.split(expression)}
    kinds = [each for each in told.get_all("Classifier") or [] if each.startswith("License ::")]
    named = {each.rsplit("::", 1)[-1].strip() for each in kinds} - {"OSI Approved"}
    if named:
        return named
    said = (told.get("License") or "").strip()
    return {each.strip("() ") for each in SPLIT.split(said.splitlines()[0])} if said else set()


def installed() -> Iterator[tuple[str, metadata.Distribution]]:
    """MetaInf's own dependencies with every extra, and theirs, as far as they are installed."""
    todo, seen = [("metainf", frozenset(metadata.metadata("metainf").get_all("Provides-Extra") or ()))], set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name != "metainf":
            yield name, found
        for line in found.requires or ():
            wanted = requirements.Requirement(line)
            marks = [{"extra": each} for each in ("", *extras)]
            if wanted.marker is None or any(wanted.marker.evaluate(each) for each in marks):
                todo.append((name_of(wanted.name), frozenset(wanted.extras)))


def test_licences_are_permissive_or_excused() -> None:
    found = dict(installed())
    assert len(found) > 20, "the metadata of the dependencies is read"
    wrong = {
        name: sorted(told) or ["none"]
        for name, each in found.items()
        if name not in EXCEPTIONS and not ((told := licences(each.metadata)) and told <= PERMISSIVE)
    }
    assert not wrong, f"expected permissive licences or a named exception, found {wrong}"


def test_an_excuse_is_still_needed() -> None:
    found = dict(installed())
    idle = [
        name for name in EXCEPTIONS
        if name in found and (told := licences(found[name].metadata)) and told <= PERMISSIVE
    ]  # fmt: skip
    assert not idle, f"these are permissive now: take them out of EXCEPTIONS: {idle}"


def test_expressions_are_taken_apart() -> None:
    told = metadata.metadata("packaging")
    assert licences(told) and licences(told) <= PERMISSIVE
    assert SPLIT.split("Apache-2.0 AND (MIT OR GPL-3.0-only)") == ["Apache-2.0", "(MIT", "GPL-3.0-only)"]
