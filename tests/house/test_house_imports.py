"""What starts often starts light."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch", "xgboost", "sklearn", "pandas", "matplotlib", "pyarrow", "sqlalchemy", "tokenizers", "yaml",
    "scipy",
)  # fmt: skip
TELL = f"import sys; print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))"
COMMAND = """
import sys
sys.argv = ["metainf", *{arguments!r}]
from metainf.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def loaded(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{TELL}"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    ["import metainf", "import metainf.domain", "import metainf.importers", "import metainf.engines",
     "import metainf.selection"],
)  # fmt: skip
def test_importing_is_light(code: str) -> None:
    assert loaded(code) == "LOADED []"


@pytest.mark.parametrize("arguments", [["--help"], ["select", "--help"], ["--version"]], ids=" ".join)
def test_help_is_light(arguments: list[str]) -> None:
    assert loaded(COMMAND.format(arguments=arguments)) == "LOADED []"
