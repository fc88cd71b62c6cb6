"""The pages are true: their commands run as they stand, generated pages are fresh, links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<excuse><!-- not run: (?P<reason>[^>]*?)-->\s*\n)?```sh\n(?P<body>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
GENERATED = {"cli.md": "metainf.cli.reference", "formats.md": "metainf.importers.reference"}


def commands(text: str) -> list[str]:
    """The `./run` lines of the blocks that are not excused; a line ending in a backslash goes on."""
    found = []
    for block in BLOCK.finditer(text):
        if not block["excuse"]:
            lines = block["body"].replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if line.strip().startswith("./run ")]
    return found


def id_of(page: Path) -> str:
    return page.name


def test_the_blocks_are_read() -> None:
    text = "```sh\n./run a \\\n  b\nls\n```\n"
    text += "<!-- not run: slow -->\n```sh\n./run c\n```\n```python\n./run d\n```\n"
    assert [shlex.split(line) for line in commands(text)] == [["./run", "a", "b"]]
    assert len(commands(PAGES[0].read_text(encoding="utf-8"))) >= 2
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 10


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_excuses_have_reasons(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        assert block["excuse"] is None or len(block["reason"].strip()) > 5


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_commands_run_in_order(page: Path, tmp_path: Path) -> None:
    """In one scratch folder with its own store: a later command finds what an earlier one made."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    told = {"METAINF_STORE": str(tmp_path / "records.sqlite"), "COLUMNS": "100"}
    for command in commands(page.read_text(encoding="utf-8")):
        arguments = [sys.executable, "-m", "metainf", *shlex.split(command, comments=True)[1:]]
        ran = subprocess.run(
            arguments, cwd=tmp_path, env={**os.environ, **told}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr[-2000:]}"
        assert ran.stdout.strip(), f"{command} says nothing"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_fresh(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", GENERATED[name]], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    kept = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert ran.stdout == kept, f"docs/{name} is stale: run python docs/refresh.py"


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()
    ]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_shown_output_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"<!-- lines: \d+ -->.*?```text\n(.*?)```", text, re.DOTALL):
        assert found[1].strip(), f"{page.name}: an output is missing: run python docs/refresh.py"


@pytest.mark.parametrize(
    ("page", "command"), [("study.md", "study show"), ("study_images.md", "study images show")]
)
def test_the_page_of_a_study_is_that_of_the_shipped_records(page: str, command: str) -> None:
    from metainf import api

    def without_pictures(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith(("![", "One panel"))]

    kept = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if page == "study.md":
        made = api.study_page(api.study_records())
    else:
        made = api.image_study_page(api.image_study_records())
    assert without_pictures(made) == without_pictures(kept), (
        f"docs/{page} is stale: run metainf {command} --report docs/{page} --plots docs/figures"
    )
