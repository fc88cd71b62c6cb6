"""Small models of all families with random weights."""

from collections.abc import Iterator
from typing import Any

import pytest

LAYERS = 4
SMALL = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}
COMMON = {
    **SMALL, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "tie_word_embeddings": True},
    "mistral": {**COMMON, "sliding_window": 6},
    "qwen2": {**COMMON, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2},
    "qwen3": {**COMMON, "head_dim": 16},
    "gpt2": {**SMALL, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
}


def config_of(family: str) -> dict[str, Any]:
    return {"model_type": family, **CONFIGS[family]}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Where a module has this name, torch calculates its sums in one thread, so that they are the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
