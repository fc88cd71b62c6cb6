"""Which beginning of a prompt OpenVINO GenAI finds in its prefix cache.

The library tells no hits, only how many blocks of its cache are in use. Its rule is known (openvino.genai,
continuous_batching/cache/block_manager.hpp, restore_cached_blocks): when a request is added, its prompt is
followed block by block as long as a block with the same beginning was computed before; blocks that were
evicted are the least recently used. The rule is followed here for whole blocks, which counts low where a
prompt is still being computed. Whenever a request is alone, the blocks in use after its first step prove or
refute the count.
"""

from collections.abc import Iterator, Sequence
from math import ceil


class Prefixes:
    """The whole blocks that were computed, oldest first; at most as many as the cache holds."""

    def __init__(self, block_tokens: int, blocks: int) -> None:
        self.block_tokens, self.blocks = block_tokens, blocks
        self.known: dict[int, None] = {}

    def hit_tokens(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that need no computing; the last one always does."""
        found = 0
        for key in self._keys(prompt):
            if key not in self.known:
                break
            self._touch(key)
            found += self.block_tokens
        return min(found, len(prompt) - 1)

    def computed(self, tokens: Sequence[int]) -> None:
        """These tokens are in the cache now."""
        for key in self._keys(tokens):
            self._touch(key)
        while len(self.known) > self.blocks:
            del self.known[next(iter(self.known))]

    def blocks_after_first_step(self, prompt: int, hit: int, step_tokens: int) -> int:
        """Blocks in use once the first step of a lone request has run."""
        return ceil(min(prompt, hit + step_tokens) / self.block_tokens)

    def _keys(self, tokens: Sequence[int]) -> Iterator[int]:
        key, size = 0, self.block_tokens
        for end in range(size, len(tokens) + 1, size):
            key = hash((key, *tokens[end - size : end]))
            yield key

    def _touch(self, key: int) -> None:
        self.known.pop(key, None)
        self.known[key] = None
