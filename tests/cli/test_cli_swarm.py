"""metainf swarm: what it says, and what it refuses before anything starts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import MetaInfError

pytest.importorskip("google.protobuf", reason="needs the extra swarm")

from metainf.api import swarming

SHOWN = swarming.Shown(
    text="Rivers flow.", tokens=3, same=True, killed="node 2", routes=("route a", "route b"), recovery_s=0.25,
    replayed_tokens=12, seconds=30.0,
)  # fmt: skip


def played(monkeypatch: pytest.MonkeyPatch, shown: swarming.Shown, *arguments: str) -> tuple[int, str]:
    """The command with what it shows given: only its words are tried here."""

    async def told(*_: object) -> swarming.Shown:
        return shown

    monkeypatch.setattr(swarming, "demo", told)
    ran = CliRunner().invoke(app, ["swarm", "demo", *arguments])
    return ran.exit_code, ran.stdout


def test_it_says_that_the_text_is_unharmed(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = played(monkeypatch, SHOWN)
    assert code == 0
    assert "text  Rivers flow." in said
    assert "3 tokens, the same as one process writes; node 2 was killed" in said
    assert "0.25 s to go on with 12 tokens replayed" in said


def test_another_text_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = played(monkeypatch, SHOWN.model_copy(update={"same": False}))
    assert code == 1 and "NOT the same as" in said


def test_json_is_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = played(monkeypatch, SHOWN, "--json")
    assert code == 0
    assert swarming.Shown.of(json.loads(said)) == SHOWN


def test_a_kill_after_the_last_token_is_refused() -> None:
    ran = CliRunner().invoke(app, ["swarm", "demo", "--tokens", "5", "--kill-after", "5"])
    assert "after 1 to 4 of 5 tokens" in str(ran.exception)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["swarm", "demo", "--model", str(tmp_path)])
    assert isinstance(ran.exception, MetaInfError)
    assert "config.json" in str(ran.exception)
