"""A Model from the head of a GGUF file."""

import re
from pathlib import Path
from typing import Any

from metainf.catalog.gguf import GgufHead, read_gguf
from metainf.domain import BadInput, Model

# llama.cpp's general.file_type numbers
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
EXPERT = re.compile(r"_exps\.")
KEYS = {
    "num_layers": "block_count",
    "hidden_size": "embedding_length",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "num_experts": "expert_count",
    "experts_per_token": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "num_shared_experts": "expert_shared_count",
    "first_k_dense": "leading_dense_block_count",
    "kv_lora_rank": "attention.kv_lora_rank",
    "q_lora_rank": "attention.q_lora_rank",
    "qk_rope_head_dim": "rope.dimension_count",
}
MLA_ONLY = ("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim")


def model_of_gguf(path: Path) -> Model:
    """Model of a GGUF file; parameters are counted from its tensors, so exactly those it holds.

    Raises BadInput for a foreign, truncated or split file (one part does not hold the whole model).
    """
    head = read_gguf(path)
    parts = head.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise BadInput(f"{path.name} is one of {parts} parts: merge them with llama-gguf-split to count it")
    architecture = head.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise BadInput(f"{path.name} does not name its general.architecture")
    facts: dict[str, Any] = {f: _whole(head, f"{architecture}.{key}") for f, key in KEYS.items()}
    if facts["kv_lora_rank"] is None:
        facts |= dict.fromkeys(MLA_ONLY)
    else:
        facts |= {"num_kv_heads": None, "attention": "MLA"}
    heads, kv_heads = facts["num_heads"], facts["num_kv_heads"]
    if heads and kv_heads:
        facts["attention"] = "MHA" if kv_heads == heads else "MQA" if kv_heads == 1 else "GQA"
    if facts["head_dim"] is None and facts["hidden_size"] and heads:
        facts["head_dim"] = facts["hidden_size"] // heads
    active = _active(head, facts)
    facts |= {
        "name": str(head.metadata.get("general.name") or path.stem),
        "family": architecture,
        "source": f"GGUF version {head.version} file, {head.bits_per_weight:.2f} bits per weight",
        "vocab_size": _vocabulary(head),
        "tie_embeddings": not any(tensor.name == "output.weight" for tensor in head.tensors),
        "params_b": head.params / 1e9,
        "active_params_b": active,
        "quantization": FILE_TYPES.get(int(_whole(head, "general.file_type") or -1), head.main_type),
    }
    return Model.of({k: v for k, v in facts.items() if v is not None})


def number_format(head: GgufHead) -> str:
    """The number format of most of a file's weights, such as Q4_1: what it states, else what it holds."""
    kind = head.metadata.get("general.file_type")
    return FILE_TYPES.get(kind, head.main_type) if isinstance(kind, int) else head.main_type


def _whole(head: GgufHead, key: str) -> int | None:
    """A positive whole number; a list counts where all its entries are equal."""
    value = head.metadata.get(key)
    if isinstance(value, list) and value and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _vocabulary(head: GgufHead) -> int | None:
    tokens = head.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, dict):
        return int(tokens["length"])
    if isinstance(tokens, list) and tokens:
        return len(tokens)
    table = next((tensor for tensor in head.tensors if tensor.name == "token_embd.weight"), None)
    return table.shape[-1] if table else None


def _active(head: GgufHead, facts: dict[str, Any]) -> float | None:
    """Parameters used for one token, in billions: all that are not experts, and the chosen experts' share."""
    experts, used = facts["num_experts"], facts["experts_per_token"]
    if experts is None:
        return head.params / 1e9
    if used is None:
        return None
    in_experts = 0
    for tensor in head.tensors:
        if EXPERT.search(tensor.name):
            weights = 1
            for size in tensor.shape:
                weights *= size
            in_experts += weights
    return float((head.params - in_experts + in_experts * used / experts) / 1e9)
