"""The client runs the embedding, the first blocks and the head; the swarm runs what lies between."""

from typing import Any

from metainf.domain import BadInput
from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.words import Span

SESSION = "first"


def first_blocks(checkpoint: Checkpoint, keep: int, dtype: str = "float32") -> Blocks:
    """Blocks [0, keep) for a client, once for all its texts. Raises BadInput where none would be left for
    the swarm."""
    if not 0 < keep < checkpoint.num_blocks:
        raise BadInput(f"expected 1 to {checkpoint.num_blocks - 1} blocks at the client, found {keep}")
    return Blocks(checkpoint, Span(start=0, end=keep), dtype)


class KeptEnds:
    """The ends of one text whose `embed` goes through the client's own blocks too; the rest is theirs. The
    cache is of this text: make one for each session. A failed node needs nothing of it, since the session
    replays activations that left here already."""

    def __init__(self, ends: Any, blocks: Blocks) -> None:
        """`blocks` may be shared by texts of the same thread."""
        self.ends, self.blocks = ends, blocks.view(blocks.span)
        self.position = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ends, name)

    def embed(self, tokens: list[int]) -> Any:
        """[1, tokens, width] activations behind the client's blocks. Raises NoRoom."""
        made = self.blocks.step(SESSION, self.position, self.ends.embed(tokens))
        self.position += len(tokens)
        return made.float()

    def close(self) -> None:
        """Give the cache's memory back."""
        self.blocks.close(SESSION)
