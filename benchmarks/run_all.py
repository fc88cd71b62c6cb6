"""Every benchmark, one after another: `python benchmarks/run_all.py [--quick] [--write docs/speed.md]`.

Prints one JSON object; --write makes the page of it. --quick takes a hundredth of the rows, to see that
everything runs; its times say nothing.
"""

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = {"select": 9, "import": 100_000, "train": 34_000, "store": 1_000_000}
BARS = (
    ("One selection over {pairs:,} known (hardware, method) pairs, in process", "select", "select_s", 0.005),
    ("The same over pairs that were never asked about", "select", "select_new_pairs_s", None),
    ("A whole answer in process, from proposing to reasons (three kinds of GPU)", "select", "answer_s", None),
    ("`metainf select` as a whole process", "select", "select_process_s", 1.0),
    ("`metainf --help` as a whole process", "select", "help_process_s", 0.25),
    ("Importing {rows:,} rows", "import", "import_s", 60.0),
    ("Training on {records:,} records", "train", "train_s", 180.0),
    ("Filtering a store of {records:,} records into training columns", "store", "columns_filtered_s", 120.0),
    ("All records of that store into training columns", "store", "columns_all_s", 120.0),
)  # fmt: skip


def run(name: str, quick: bool) -> dict[str, Any]:
    """The JSON that one benchmark prints."""
    size = max(ROWS[name] // 100, 2) if quick else ROWS[name]
    print(f"{name} ({size:,}) ...", file=sys.stderr, flush=True)
    told = subprocess.run(
        [sys.executable, str(HERE / f"bench_{name}.py"), str(size)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return dict(json.loads(told))


def page(found: dict[str, dict[str, Any]]) -> str:
    """The page in Markdown."""
    about = found["select"]["machine"]
    lines = [
        "# Speed",
        "",
        "Written by `python benchmarks/run_all.py --write docs/speed.md`; the bars are the ones that the "
        "project set itself before measuring.",
        "",
        f"Measured on {date.today().isoformat()}: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, load {about['load']} at the start; {about['system']}, Python "
        f"{about['python']}, NumPy {about['numpy']}, pydantic {about['pydantic']}, XGBoost "
        f"{about['xgboost-cpu']}, SQLAlchemy {about['sqlalchemy']}.",
        "",
        "| what | time | bar | |",
        "| --- | --- | --- | --- |",
    ]
    for what, name, field, bar in BARS:
        seconds = found[name][field]
        verdict = "" if bar is None else "met" if seconds <= bar else "missed"
        told = "–" if bar is None else shown(bar)
        lines.append(f"| {what.format(**found[name])} | {shown(seconds)} | {told} | {verdict} |")
    store = found["store"]
    memory = store["peak_rss_gib_columns"]
    lines += [
        f"| Memory of those two | {memory:.2f} GiB | 4 GiB | {'met' if memory <= 4 else 'missed'} |",
        "",
        "Known pairs are those of an earlier question with another load: what follows from hardware, method "
        "or model alone is kept in memory, and nothing else is.",
        "",
        "What bounds a selection: two learners of a Gaussian process and boosted trees, the terms of the "
        "roofline, energy, failures and limits are each some dozens of NumPy calls on arrays of about a "
        "thousand rows, and most of their time is the calls themselves. Tried and kept, all with results "
        "equal to the last bit: one forecast for pairs that differ in caps and caches alone, a memory of "
        "what the pairs alone decide, several features of a tree in one look-up, excluded candidates told "
        "in groups. Less would take compiled code, or one learner instead of two.",
        "",
        f"Times of selections and processes are medians of {found['select']['repeats']} or more runs after "
        "one that is not counted; the others were run once. Processes start with compiled bytecode and a "
        "warm file cache. Bench records and rows are made up, as each benchmark's head says. Adding the "
        f"store's records took {shown(store['generate_and_add_s'])}, making them up included.",
        "",
    ]
    return "\n".join(lines)


def shown(seconds: float) -> str:
    """Seconds with the unit that reads best."""
    return (
        f"{seconds * 1e3:.1f} ms"
        if seconds < 0.1
        else f"{seconds:.2f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
    )


def main() -> None:
    """Run, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    found = {name: run(name, options.quick) for name in ROWS}
    print(json.dumps(found, indent=1))
    if options.write:
        options.write.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
