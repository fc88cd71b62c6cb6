"""What the command line loads before it knows what is asked."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "xgboost", "sqlalchemy", "pyarrow", "scipy", "metainf.domain")


def loaded(*arguments: str) -> set[str]:
    """Top modules that a run of the command leaves loaded."""
    code = (
        "import sys\n"
        f"sys.argv = ['metainf', *{list(arguments)!r}]\n"
        "from metainf.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stderr.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("select", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not loaded(*arguments) & set(HEAVY)


def test_the_first_help_loads_no_pydantic() -> None:
    # The help of one command does: recent versions of typer ask it for their own sake.
    assert "pydantic" not in loaded("--help")


def test_an_answer_loads_no_training_and_no_store() -> None:
    question = ("select", "-m", "Llama-3.1-8B-Instruct", "-w", "sharegpt", "-c", "8", "-H", "H100", "--json")
    assert not loaded(*question) & {"xgboost", "scipy", "sqlalchemy", "pyarrow", "pandas", "sklearn", "rich"}


def test_errors_made_on_purpose_still_end_with_their_sentence() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from metainf.cli import main; main()", "models", "show", "no-such-model"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2 and run.stderr.startswith("metainf: unknown model")
