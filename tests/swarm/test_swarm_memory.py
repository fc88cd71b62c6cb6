"""Memory that is not there: caches within their budget, and a process that the system gives no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from families import COMMON
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.compute import caches
from metainf.swarm.compute.caches import Cache, Layout, NoRoom, Room, budget, free_bytes
from metainf.swarm.compute.weights import random_checkpoint

torch = pytest.importorskip("torch", reason="needs the extra swarm")
pytest.importorskip("transformers", reason="needs the extra swarm")
LAYOUT = Layout(layers=2, heads=1, width=4, dtype=torch.float32, item_bytes=4)


@given(
    limit=st.integers(0, 40_000),
    asked=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=40),
)
def test_caches_never_hold_more_than_the_budget(limit: int, asked: list[tuple[int, int]]) -> None:
    """Sessions grow, by 0 they leave. What is held is what the tensors take, and what was written stays."""
    room = Room(limit)
    held: dict[int, Cache] = {}
    for name, tokens in asked:
        cache = held.setdefault(name, Cache(LAYOUT, room))
        before = cache.length
        if tokens == 0:
            held.pop(name).drop()
            continue
        try:
            cache.reserve(tokens)
        except NoRoom:
            assert (before + tokens) * LAYOUT.token_bytes + room.held > limit
            continue
        finally:
            assert room.held <= limit
        cache.keys[:, :, before : before + tokens] = name + 1
        cache.length += tokens
        assert (cache.keys[:, :, : cache.length] == name + 1).all()
        sizes = [2 * c.keys.numel() * 4 for c in held.values() if c.keys is not None]
        assert room.held == sum(sizes)
    for cache in held.values():
        cache.drop()
    assert room.held == 0


def test_the_budget_is_what_is_free_of_machine_group_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert free_bytes() > 0 and budget(1000) == 500
    with pytest.raises(BadInput, match="share"):
        budget(1000, 0.0)
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    group.mkdir()
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:     500 kB\n")
    monkeypatch.setattr(caches, "MEMINFO", meminfo)
    monkeypatch.setattr(caches, "CGROUP", group)
    assert free_bytes() == 500 * 1024
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert free_bytes() == 500 * 1024
    (group / "memory.max").write_text("4000\n")
    assert free_bytes() == 3000
    monkeypatch.setattr(caches, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(caches, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(caches.resource, "getrlimit", lambda _: (-1, -1))
    with pytest.raises(BadInput, match="not known"):
        free_bytes()


def test_a_process_that_gets_no_more_memory_drops_the_session_and_serves_others(tmp_path: Path) -> None:
    """A pass that the system refuses memory for, and a cache; both for real, in a process with a limit."""
    config = COMMON | {
        "model_type": "llama",
        "intermediate_size": 150_000,
        "num_hidden_layers": 1,
        "head_dim": 8192,
    }
    folder = random_checkpoint(config, tmp_path, spread=0.01)
    program = Path(__file__).parent / "starved.py"
    ended = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads(ended.stdout)
    assert told["before"] == told["after"] == told["new"] == "fine"
    assert told["pass"] == "out of memory: the session is dropped"
    assert told["cache"].startswith("out of memory: ") and "for a cache" in told["cache"]
    assert told["sessions"] == "new,small"
