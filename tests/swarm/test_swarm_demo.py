"""The demonstration with the real weights, as a user starts it."""

import json
import subprocess
import sys

import pytest

for name in (
    "torch",
    "transformers",
    "accelerate",
    "gguf",
    "grpc",
    "google.protobuf",
    "cryptography",
    "nats",
):
    pytest.importorskip(name, reason="needs the extra swarm")

from metainf.domain import MissingExtra  # noqa: E402
from metainf.measure.weights import MissingWeights  # noqa: E402
from metainf.swarm.compute.weights import packaged  # noqa: E402
from metainf.swarm.host.nats import program  # noqa: E402

pytestmark = pytest.mark.engine


def test_a_node_is_killed_and_the_text_is_unharmed() -> None:
    try:
        packaged()
        program()
    except (MissingWeights, MissingExtra) as error:
        pytest.skip(str(error))
    words = "metainf swarm demo --json --tokens 24 --kill-after 8"
    command = [sys.executable, "-m", *words.split()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert shown["same"] and shown["tokens"] == 24 and shown["text"].strip()
    assert f"killed {shown['killed']}" in ran.stderr and shown["replayed_tokens"] > 8
    before, after = shown["routes"]
    assert before.count("ed-") == after.count("ed-") == 2, "blocks are split between two nodes"
    assert before.split()[1] != after.split()[1], "the first node is another one"
