"""Parameter counts from the shapes of a decoder: what a config.json implies, without any weights."""

from dataclasses import dataclass

from metainf.domain import Model


@dataclass(frozen=True)
class Extras:
    """Shape facts that Model has no field for, all in elements.

    `mlp_matrices` is 3 for gated feed-forward (SwiGLU) and 2 for the plain kind, `positions` the rows of
    a learned position table, `moe_layers` how many layers hold experts, `beside_moe` the width of a dense
    feed-forward beside the experts, `dense_width` that of layers without experts where it is not
    `intermediate_size`, `indexer` sparse-attention weights of a layer, `other` whole parts
    beside the decoder such as a vision tower.
    """

    mlp_matrices: int = 3
    positions: int = 0
    moe_layers: int = 0
    beside_moe: int = 0
    dense_width: int | None = None
    indexer: int = 0
    other: int = 0


def attention_weights(model: Model) -> int | None:
    """Weights of one layer's attention projections, None where a shape is missing."""
    hidden, heads = model.hidden_size, model.num_heads
    if hidden is None or heads is None:
        return None
    if model.kv_lora_rank is None:
        if model.num_kv_heads is None or model.head_dim is None:
            return None
        return 2 * hidden * model.head_dim * (heads + model.num_kv_heads)
    rope, nope, value = model.qk_rope_head_dim, model.qk_nope_head_dim, model.v_head_dim
    if rope is None or nope is None or value is None:
        return None
    query_width = heads * (nope + rope)
    rank = model.q_lora_rank
    query = hidden * query_width if rank is None else rank * (hidden + query_width)
    key_value = hidden * (model.kv_lora_rank + rope) + model.kv_lora_rank * heads * (nope + value)
    return query + key_value + heads * value * hidden


def count_params(model: Model, extras: Extras) -> tuple[float, float] | None:
    """(all, active) parameters in billions; None where a shape is missing.

    Norms and biases are left out save two norms a layer: they stay below 1 % of any model above 0.1 B.
    """
    layers, hidden, vocab = model.num_layers, model.hidden_size, model.vocab_size
    attention = attention_weights(model)
    if layers is None or hidden is None or vocab is None or attention is None:
        return None
    width, moe = extras.mlp_matrices * hidden, extras.moe_layers
    if model.intermediate_size is None and moe < layers:
        return None
    tables = vocab * hidden * (1 if model.tie_embeddings else 2) + extras.positions * hidden
    both = layers * (attention + 2 * hidden + extras.indexer) + tables + extras.other
    both += (layers - moe) * width * (
        extras.dense_width or model.intermediate_size or 0
    ) + moe * width * extras.beside_moe
    if not moe:
        return both / 1e9, both / 1e9
    experts, chosen, expert = model.num_experts, model.experts_per_token, model.moe_intermediate_size
    if experts is None or chosen is None or expert is None:
        return None
    shared = model.shared_expert_intermediate or 0
    both += moe * (hidden * experts + width * shared)
    return (both + moe * width * experts * expert) / 1e9, (both + moe * width * chosen * expert) / 1e9
