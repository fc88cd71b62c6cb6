"""Runs the commands of the pages and writes their output below them: `python docs/refresh.py`.

A block of commands that is followed by a block of text gets the first lines of what its last command
prints; `<!-- lines: 12 -->` before it says how many. The generated pages and the picture are made too.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = re.compile(
    r"<!-- lines: (?P<lines>\d+) -->\n```sh\n(?P<body>.*?)```\n\n```text\n(?P<old>.*?)```", re.DOTALL
)
GENERATED = {"docs/cli.md": "metainf.cli.reference", "docs/formats.md": "metainf.importers.reference"}
RESULTS = {
    "src/metainf/learn/data/results.json": ["metainf.api.results", "docs/results.md"],
    "src/metainf/learn/data/evidence.json": ["metainf.api.evidence", "docs/results.md"],
    "src/metainf/learn/data/over_time.json": [
        "metainf.api.over_time", "docs/over_time.md", "docs/planning.md"
    ],
}  # fmt: skip
PICTURE = (
    "select --model Llama-3.1-8B-Instruct --workload sharegpt --concurrency 32 --hardware 1-4xL4 "
    "--hardware A100-80GB --hardware H100 --top 10 --plot docs/figures/pareto.svg"
)


def output(arguments: list[str], where: Path) -> str:
    """What a module prints, run as a reader would with a terminal of 100 columns."""
    told = {"COLUMNS": "100", "METAINF_STORE": str(where / "records.sqlite"), "METAINF_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=where,
        env={**os.environ, **told},
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise SystemExit(f"{shlex.join(arguments)}\n{ran.stderr}")
    return ran.stdout


def refresh(page: Path) -> None:
    """Run the shown commands of one page in order, in one scratch folder, and renew their output."""
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)
        (where / "tests").symlink_to(ROOT / "tests")

        def renewed(block: re.Match[str]) -> str:
            said = ""
            for line in block["body"].replace("\\\n", " ").splitlines():
                if line.startswith("./run "):
                    said = output(["metainf", *shlex.split(line)[1:]], where)
            kept = [line.rstrip() for line in said.strip("\n").splitlines()]
            cut = kept[: int(block["lines"])] + (["..."] if len(kept) > int(block["lines"]) else [])
            text = "\n".join(cut)
            return f"<!-- lines: {block['lines']} -->\n```sh\n{block['body']}```\n\n```text\n{text}\n```"

        page.write_text(SHOWN.sub(renewed, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for name, module in GENERATED.items():
        (ROOT / name).write_text(output([module], ROOT), encoding="utf-8")
    for name, arguments in RESULTS.items():
        (ROOT / name).write_text(output(arguments, ROOT), encoding="utf-8")
    output(["metainf", *shlex.split(PICTURE)], ROOT)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        refresh(page)
