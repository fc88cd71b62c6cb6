"""What holds for every test of the swarm."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def nobody_becomes_slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of these tests announce the times of an idle machine, so on a busy one each would be left as
    slow, for a spare that a test keeps for something else. Where leaving is the point, the mark `hastens`
    says so."""
    if find_spec("grpc") and not request.node.get_closest_marker("hastens"):
        monkeypatch.setattr("metainf.swarm.net.client.worth", lambda *_: False)
