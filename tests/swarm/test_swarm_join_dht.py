"""`metainf node` and `metainf swarm` by the address of a hash table, which the first node begins."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "hivemind"):
    pytest.importorskip(name, reason="needs the extras swarm and dht")

from small_swarm import small_model, whole_text  # noqa: E402

from metainf.cli.app import app  # noqa: E402
from metainf.swarm.host.nats import free_ports  # noqa: E402
from metainf.swarm.host.tokens import Tokens  # noqa: E402

pytestmark = pytest.mark.engine


def begun(folder: Path, join: str, span: str, scratch: Path) -> subprocess.Popen[str]:
    """A node of the command."""
    line = [sys.executable, "-m", "metainf", "node", "--join", join, "--model", str(folder), "--span", span]
    return subprocess.Popen(
        [*line, "--threads", "1", "--grace", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(scratch)},
    )  # fmt: skip


def said(node: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The next such thing that it says."""
    assert node.stdout is not None
    for line in node.stdout:
        told: dict[str, Any] = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"it ended before it said {event}")


def test_a_table_is_begun_joined_and_used(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "small")
    first = begun(folder, f"dht://127.0.0.1:{free_ports(1)[0]}", "0:2", tmp_path)
    nodes = [first]
    try:
        join = said(first, "join")["text"].removeprefix("join ")
        assert join.startswith("dht://127.0.0.1:")
        nodes.append(begun(folder, join, "2:4", tmp_path))
        said(nodes[1], "ready")
        asked = ["--prompt", "Grüße", "--plain", "-n", "12", "--json"]
        ran = CliRunner().invoke(
            app,
            [
                "swarm",
                "generate",
                "--join",
                join,
                "--model",
                str(folder),
                "--audit",
                "1",
                "--audit-here",
                *asked,
            ],
        )
        assert ran.exit_code == 0, (ran.output, ran.exception)
        told, tokens = json.loads(ran.stdout), Tokens(folder)
        right = tokens.decode(whole_text(folder, tokens.encode("Grüße"), 12))
        assert right.startswith(told["text"]) and told["text"]
        assert told["verdicts"]["passed"] == 2 and told["verdicts"]["lied"] == []
        ran = CliRunner().invoke(app, ["swarm", "status", "--join", join])
        assert ran.exit_code == 0 and "copies  1111" in ran.stdout, (ran.output, ran.exception)
    finally:
        for node in nodes:
            node.terminate()
        codes = [node.wait(30) for node in nodes]
    assert codes == [0, 0]
