"""The commands of the README run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"(?P<excuse><!-- not run: (?P<reason>[^>]*?)-->\s*\n)?```sh\n(?P<body>.*?)```", re.DOTALL)
METAINF = Path(sys.executable).with_name("metainf")


def commands(text: str) -> list[str]:
    """The `./run` lines of the blocks that are not excused; a line ending in a backslash goes on."""
    found = []
    for block in BLOCK.finditer(text):
        if not block["excuse"]:
            lines = block["body"].replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if line.strip().startswith("./run ")]
    return found


COMMANDS = commands(README.read_text(encoding="utf-8"))


def test_the_blocks_are_read() -> None:
    text = "```sh\n./run a \\\n  b\nls\n```\n"
    text += "<!-- not run: slow -->\n```sh\n./run c\n```\n```python\n./run d\n```\n"
    assert [shlex.split(line) for line in commands(text)] == [["./run", "a", "b"]]
    assert len(COMMANDS) >= 2, f"expected at least two commands in {README.name}, found {COMMANDS}"


def test_excuses_have_reasons() -> None:
    for block in BLOCK.finditer(README.read_text(encoding="utf-8")):
        assert block["excuse"] is None or len(block["reason"].strip()) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path) -> None:
    if not METAINF.exists():
        pytest.skip(f"metainf is not installed beside {sys.executable}")
    arguments = [str(METAINF), *shlex.split(command, comments=True)[1:]]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert ran.returncode == 0, f"{command}\n{ran.stderr[-2000:]}"
    assert ran.stdout.strip(), f"{command} says nothing"
