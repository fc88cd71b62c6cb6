"""Nodes are killed and new ones come while texts are written: every text is right, or says what was wrong."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from small_swarm import small_model, whole_text  # noqa: E402

from metainf.domain import MissingExtra  # noqa: E402
from metainf.hosts.asked import Ask  # noqa: E402
from metainf.swarm.host.nats import program, started  # noqa: E402
from metainf.swarm.host.tokens import Tokens  # noqa: E402
from metainf.testing.churning import Plan, churned  # noqa: E402

pytestmark = pytest.mark.engine


def test_texts_under_churn(tmp_path: Path) -> None:
    """Six nodes of which one is killed every two seconds or so: fifteen times the 30 % a minute."""
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))
    folder = small_model(tmp_path / "small")
    tokens, known = Tokens(folder), dict[str, str]()

    def right(ask: Ask) -> str:
        prompt = str(ask.prompt)
        if prompt not in known:
            made = whole_text(folder, tokens.encode(prompt, special=False), ask.max_tokens)
            known[prompt] = tokens.decode(made)
        return known[prompt]

    (tmp_path / "nats").mkdir()
    server = started(tmp_path / "nats")
    plan = Plan(nodes=6, blocks=2, texts=2, tokens=100, seconds=8.0, leaving_per_min=4.5)
    try:
        found = asyncio.run(churned(folder, server.url, plan, right, tmp_path))
    finally:
        server.stop()
    assert found.kills >= 1 and found.texts > plan.texts, found
    assert found.same + len(found.errors) == found.texts, found
    assert found.same > len(found.errors), found
