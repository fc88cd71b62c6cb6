"""Attention for rows of unlike length: the tokens of all sessions stand behind one another in one pass.

Everything but attention works on single tokens, so it takes them as one long row, [1, tokens, width].
Attention is done for each session with its own cache. It is registered with the transformers library, whose
layers call it with the queries, keys and values of the new tokens and hand `rows` through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metainf.swarm.compute.caches import Cache

NAME = "metainf_ragged"


@dataclass
class Row:
    """One session's part of a pass: its tokens [begin, begin + count) of the long row, the first of which is
    at `position` of the text."""

    cache: Cache
    begin: int
    count: int
    position: int
    masks: dict[int | None, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The rows of a pass, for layers whose caches begin at layer `first`."""

    rows: Sequence[Row]
    first: int = 0


def attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, *, rows: Rows, **said: Any
) -> tuple[Any, None]:
    """[1, tokens, heads, width] of queries [1, heads, tokens, width], keys and values [1, kv heads, ...].
    Layers say `scaling`, and `sliding_window` where they see only so many tokens back."""
    import torch

    layer = module.layer_idx - rows.first
    scaling, window = said.get("scaling"), said.get("sliding_window")
    if len(rows.rows) == 1:
        row = rows.rows[0]
        return _row(row, layer, query, key, value, scaling, window).transpose(1, 2), None
    made = []
    for row in rows.rows:
        own = slice(row.begin, row.begin + row.count)
        made.append(_row(row, layer, query[:, :, own], key[:, :, own], value[:, :, own], scaling, window))
    return torch.cat(made, dim=2).transpose(1, 2), None


def _row(
    row: Row, layer: int, query: Any, key: Any, value: Any, scaling: float | None, window: int | None
) -> Any:
    from torch.nn.functional import scaled_dot_product_attention as attend

    end = row.position + row.count
    keys, values = row.cache.keys[layer], row.cache.values[layer]
    keys[:, row.position : end] = key[0]
    values[:, row.position : end] = value[0]
    begin = 0 if window is None else max(0, row.position + 1 - window)
    keys, values = keys[None, :, begin:end], values[None, :, begin:end]
    if row.count == 1:
        shared = query.view(1, keys.shape[1], -1, query.shape[-1])  # heads that share keys, as if tokens
        return attend(shared, keys, values, scale=scaling).view(query.shape)
    grouped = query.shape[1] != keys.shape[1]
    if end == row.count and (window is None or end <= window):
        return attend(query, keys, values, is_causal=True, scale=scaling, enable_gqa=grouped)
    mask = _mask(row, begin, end, window)
    return attend(query, keys, values, attn_mask=mask, scale=scaling, enable_gqa=grouped)


def _mask(row: Row, begin: int, end: int, window: int | None) -> Any:
    """[count, keys]: which keys each token may see. Made once for all layers of a kind."""
    import torch

    if window not in row.masks:
        tokens = torch.arange(row.position, end)[:, None]
        keys = torch.arange(begin, end)[None]
        seen = keys <= tokens
        row.masks[window] = seen if window is None else seen & (keys > tokens - window)
    return row.masks[window]


def register() -> str:
    """Make it known to the library; the name under which it is."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    return NAME
