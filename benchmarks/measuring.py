"""What the benchmarks share: the machine's description, and medians of repeated runs."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, memory (GiB), load, and versions of what takes the time."""
    names = ("numpy", "pydantic", "xgboost-cpu", "sqlalchemy")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time in seconds of the repeats, after one warm-up."""
    run()
    return statistics.median(once(run) for _ in range(repeats))


def once(run: Callable[[], object]) -> float:
    """Wall time of one run in seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def process(*arguments: str) -> Callable[[], object]:
    """A run of the metainf command in a fresh process. The warm-up leaves compiled bytecode behind."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    whole = [sys.executable, "-c", "from metainf.cli import main; main()", *arguments]
    return lambda: subprocess.run(whole, capture_output=True, check=True, env=kept)


def peak_rss_gib() -> float:
    """Highest resident memory of this process so far."""
    per_unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * per_unit / 2**30, 2)


def tell(report: dict[str, Any]) -> None:
    """Print a report as JSON, the machine first."""
    print(json.dumps({"machine": machine(), **report}, indent=1))


def written(page: Path, maker: str, text: str) -> None:
    """Put the text into a page between the two marks of its maker; other makers' parts stay."""
    begin, end = f"<!-- made by {maker} -->", f"<!-- end of what {maker} made -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    if not rest:
        raise SystemExit(f"expected {begin} in {page}")
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
