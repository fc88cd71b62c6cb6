"""A process whose memory the system bounds: some sessions want too much, one goes on. Prints what came."""

import json
import resource
import sys
from pathlib import Path

import torch

from metainf.swarm.compute.batching import Batcher
from metainf.swarm.compute.blocks import Blocks, Step
from metainf.swarm.compute.caches import STATUS, Cache, NoRoom, _line
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.words import Span

SPARE = 64 * 2**20


def outcome(batcher: Batcher, part: Blocks, step: Step) -> str:
    try:
        made, _ = batcher.submit(part, step).result(60)
    except NoRoom as error:
        return str(error)
    return "fine" if bool(torch.isfinite(made).all()) else "nonsense"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    part = Blocks(Checkpoint(folder), Span(start=0, end=1), cache_bytes=2**40)
    batcher = Batcher()
    token = torch.ones(1, 1, part.hidden_size)
    told = {"before": outcome(batcher, part, Step("small", 0, token))}
    limit = (_line(STATUS, "VmSize:") or 0) + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    wide = torch.ones(1, 1024, part.hidden_size)
    told["pass"] = outcome(batcher, part, Step("wide", 0, wide[:, :200]))
    assert 1024 * part.layout.token_bytes >= 2 * SPARE
    held = part.room.held
    try:
        Cache(part.layout, part.room).reserve(1024)
    except NoRoom as error:
        told["cache"] = str(error)
    assert part.room.held == held
    told["after"] = outcome(batcher, part, Step("small", 1, token))
    told["new"] = outcome(batcher, part, Step("new", 0, token))
    batcher.close(part, "none")
    told["sessions"] = ",".join(sorted(part.sessions))
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
