"""What the page about security says of limits and tests is so."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
LIMIT = re.compile(r"^\| [^|]+ \| ([\d,]+)[^|]* \| `([\w.]+)\.([A-Z_]+)` \|$", re.MULTILINE)
LIMITS = LIMIT.findall(PAGE)
TESTS = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))


def test_the_tables_are_read() -> None:
    rows = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    assert len(LIMITS) == rows.count("\n| ") - 2 > 25
    assert len(TESTS) > 15


@pytest.mark.parametrize(("told", "module", "name"), LIMITS, ids=[f"{m}.{n}" for _, m, n in LIMITS])
def test_a_limit_is_that_of_the_code(told: str, module: str, name: str) -> None:
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        pytest.skip(f"needs {error.name}")
    assert float(told.replace(",", "")) == found


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_is_named_is_there(name: str) -> None:
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    if name not in files:
        assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in files.values()), name
