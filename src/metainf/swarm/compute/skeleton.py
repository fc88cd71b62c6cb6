"""The transformers library's own modules without memory, and their weights from a checkpoint."""

import copy
import inspect
import math
from typing import Any

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.compute.ragged import register
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.words import Span

EMBEDDING, NORM, LAYERS = ("embed_tokens", "wte"), ("norm", "ln_f"), ("layers", "h")
POSITIONS = "wpe"


def needed_torch() -> Any:
    """PyTorch. Raises MissingExtra."""
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError:
        raise MissingExtra("running blocks of a model", "swarm") from None
    return torch


def config_of(checkpoint: Checkpoint, span: Span) -> Any:
    """The model's configuration with only the span's layers."""
    from transformers import AutoConfig

    config = copy.deepcopy(AutoConfig.from_pretrained(checkpoint.folder))
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(span)
    if kinds:
        config.layer_types = list(kinds[span.start : span.end])
    return config


def skeleton(config: Any) -> tuple[Any, Any]:
    """The library's model without memory for its weights, and the part of it that holds the layers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config, attn_implementation=register())
    return whole, getattr(whole, whole.base_model_prefix)


def part(base: Any, names: tuple[str, ...]) -> str:
    """Which of the names this family uses."""
    return next(name for name in names if hasattr(base, name))


def fill(module: Any, tensors: dict[str, Any]) -> int:
    """Give a skeleton its weights; returns their bytes. Raises BadInput where one has no memory yet."""
    module.load_state_dict(tensors, strict=False, assign=True)
    named = [*module.named_parameters(), *module.named_buffers()]
    empty = [name for name, each in named if each.is_meta]
    if empty:
        raise BadInput(f"these weights were not found: {', '.join(empty[:3])}")
    return sum(math.prod(each.shape) * each.element_size() for each in tensors.values())


def rotary(base: Any, config: Any) -> Any:
    """Rotary tables are computed, not stored: the module that computes them, made anew with memory."""
    return type(base.rotary_emb)(config=config)


def cache_word(base: Any) -> str:
    """What this version of the library calls the cache."""
    names = inspect.signature(base.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
