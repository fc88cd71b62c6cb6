"""Nothing in the house knows the machine on which it was written."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "docs", "benchmarks")
ELSEWHERE = tuple(f"/{name}/" for name in ("wo" + "rk", "tm" + "p", "ho" + "me"))


def tracked() -> list[Path]:
    """Files that git tracks or would; without git, what lies in the usual folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        return [ROOT / line for line in ran.stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
        return [*found, *ROOT.glob("*.md"), *ROOT.glob("*.toml")]


def text_of(path: Path) -> str | None:
    if not path.is_file() or "__pycache__" in path.parts:
        return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {str(path.relative_to(ROOT)): text_of(path) for path in tracked()}
    return {name: text for name, text in found.items() if text is not None}


def test_the_files_are_found(texts: dict[str, str]) -> None:
    assert "src/metainf/__init__.py" in texts and "tests/house/test_house_words.py" in texts


@pytest.mark.parametrize("word", ELSEWHERE)
def test_no_path_of_a_machine(texts: dict[str, str], word: str) -> None:
    said = {
        f"{name}:{number}"
        for name, text in texts.items()
        if word in text
        for number, line in enumerate(text.splitlines(), 1)
        if word in line
    }
    assert not said, f"these lines hold a path of one machine: {sorted(said)[:10]}"
