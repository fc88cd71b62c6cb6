"""A Model from a Hugging Face config.json, with its parameters counted from the shapes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metainf.catalog.encoders import refuse_encoders
from metainf.catalog.shapes import Extras, count_params
from metainf.catalog.structures import GATED, PLAIN_MLP, POSITIONS, TIED
from metainf.catalog.weights import params_b
from metainf.domain import BadInput, Model

Config = Mapping[str, Any]

LARGEST = 1_000_000_000
"""No layer, head, width or table of a model counts more than this."""
NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
KEYS: dict[str, tuple[str, ...]] = {
    "num_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "num_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups"),
    "head_dim": ("head_dim", "attention_head_dim"),
    "intermediate_size": (
        "intermediate_size",
        "n_inner",
        "ffn_dim",
        "ffn_hidden_size",
        "ff_intermediate_size",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "seq_length",
        "max_seq_len",
        "n_ctx",
    ),
    "sliding_window": ("sliding_window",),
    "num_experts": ("num_local_experts", "n_routed_experts", "num_experts"),
    "experts_per_token": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "top_k_experts",
    ),
    "moe_intermediate_size": ("moe_intermediate_size", "expert_intermediate_size"),
    "num_shared_experts": ("n_shared_experts", "num_shared_experts"),
    "first_k_dense": ("first_k_dense_replace",),
    "kv_lora_rank": ("kv_lora_rank",),
    "q_lora_rank": ("q_lora_rank",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
    "qk_nope_head_dim": ("qk_nope_head_dim",),
    "v_head_dim": ("v_head_dim",),
}


def read_config(path: Path) -> Model:
    """Model of a config.json or of the folder that holds one. Raises BadInput saying what is missing."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {file.name}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{file.name} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise BadInput(f"{file.name} holds a {type(config).__name__}, expected a Hugging Face configuration")
    folder = file.resolve().parent.name
    name = config.get("_name_or_path") or (folder if file.name == "config.json" else file.stem)
    model = model_of(config, str(name))
    return model if model.params_b is not None or file.name != "config.json" else _weighed(model, file.parent)


def _weighed(model: Model, folder: Path) -> Model:
    """A model whose shapes do not tell its size, with the parameters that its weight files hold."""
    counted = params_b(folder)
    if counted is None:
        return model
    active = None if model.num_experts else round(counted, 4)
    return model.model_copy(update={"params_b": round(counted, 4), "active_params_b": active})


def model_of(config: Config, name: str) -> Model:
    """Model of a parsed configuration. `params_b` stays None for an unknown structure.

    Raises BadInput naming what is missing or wrong, NotSupported for a model that generates nothing.
    """
    inner = decoder_of(config)
    refuse_encoders(inner, name)
    facts: dict[str, Any] = {
        field: value for field, keys in KEYS.items() if (value := _first(inner, keys)) is not None
    }
    blocks = inner.get("layers_block_type") or inner.get("hybrid_override_pattern")
    if "num_layers" not in facts and isinstance(blocks, list | str) and blocks:
        facts["num_layers"] = len(blocks)
    missing = [_missing(inner, k) for k in ("num_layers", "hidden_size", "num_heads") if k not in facts]
    if missing:
        raise BadInput(f"configuration of {name} lacks {', '.join(missing)}: is it a language model's?")
    facts |= _derived(inner, facts)
    facts |= {
        "name": name,
        "modality": "multimodal" if any(k in config for k in ("vision_config", "audio_config")) else "text",
        "source": "config.json read from disk",
        "dtype": _text(inner.get("torch_dtype") or inner.get("dtype") or config.get("torch_dtype")),
        "quantization": _quantization(config),
    }
    model = Model.of({k: v for k, v in facts.items() if v is not None})
    counted = count_params(model, _extras(config, inner, model)) if known_structure(inner) else None
    if counted is None:
        return model
    return model.model_copy(
        update={"params_b": round(counted[0], 4), "active_params_b": round(counted[1], 4)}
    )


def decoder_of(config: Config) -> dict[str, Any]:
    """The part of a configuration that describes the language decoder."""
    for part in NESTED:
        if isinstance(nested := config.get(part), dict):
            outer = {
                k: config[k] for k in ("tie_word_embeddings", "vocab_size", "torch_dtype") if k in config
            }
            return decoder_of({"model_type": config.get("model_type"), **outer, **nested})
    return dict(config)


def known_structure(inner: Config) -> bool:
    """Whether the layers of this type are ones that `count_params` describes."""
    hybrid = (
        "hybrid_override_pattern",
        "layers_block_type",
        "linear_attn_config",
        "linear_num_key_heads",
        "block_configs",
    )
    return inner.get("model_type") in GATED | PLAIN_MLP and not any(key in inner for key in hybrid)


def _first(config: Config, keys: tuple[str, ...]) -> int | None:
    """First whole number above zero under one of the keys; 0 and null say 'not there'."""
    for key in keys:
        value = config.get(key)
        value = value[0] if isinstance(value, list) and len(set(map(str, value))) == 1 else value
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 < value <= LARGEST
            and value == int(value)
        ):
            return int(value)
    return None


def _missing(config: Config, field: str) -> str:
    """A field that is not there, with what stands in its place."""
    wrong = [f"{key} is {config[key]!r:.40}" for key in KEYS[field] if config.get(key) is not None]
    found = f"; expected a whole number from 1 to {LARGEST:,}, but {wrong[0]}" if wrong else ""
    return f"{field} ({' or '.join(KEYS[field])}{found})"


def _text(value: object) -> str | None:
    return value.removeprefix("torch.") if isinstance(value, str) else None


def _derived(inner: Config, facts: dict[str, Any]) -> dict[str, Any]:
    """Facts that follow from the configuration's conventions: heads, attention kind, ties, experts."""
    kind, layers, heads = inner.get("model_type"), facts["num_layers"], facts["num_heads"]
    derived: dict[str, Any] = {"kv_layers": _kv_layers(inner, layers)}
    if "kv_lora_rank" in facts:
        width = facts.get("qk_rope_head_dim", 0) + facts.get("qk_nope_head_dim", 0)
        derived |= {"attention": "MLA", "num_kv_heads": None, "head_dim": width or None}
    else:
        kv_heads = facts.get("num_kv_heads", heads)
        if inner.get("multi_query") is True and not inner.get("new_decoder_architecture"):
            kv_heads = 1
        derived["attention"] = "MHA" if kv_heads == heads else "MQA" if kv_heads == 1 else "GQA"
        derived["num_kv_heads"] = kv_heads
        derived["head_dim"] = facts.get("head_dim") or (facts["hidden_size"] // heads)
    if "intermediate_size" not in facts and kind in PLAIN_MLP:
        derived["intermediate_size"] = 4 * facts["hidden_size"]
    tie = inner.get("tie_word_embeddings")
    derived["tie_embeddings"] = tie if isinstance(tie, bool) else kind in TIED
    return derived | _experts(inner, facts)


def _kv_layers(inner: Config, layers: int) -> int:
    """Layers that keep a key/value cache."""
    pattern = inner.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return pattern.count("*")
    if period := _first(inner, ("attn_layer_period",)):
        return len(range(int(inner.get("attn_layer_offset") or 0), layers, period))
    types = inner.get("layer_types") or inner.get("layers_block_type")
    if isinstance(types, list) and len(types) == layers:
        return sum(str(kind).endswith("attention") and "linear" not in str(kind) for kind in types)
    return layers


def _experts(inner: Config, facts: dict[str, Any]) -> dict[str, Any]:
    if facts.get("num_experts", 1) <= 1:
        return dict.fromkeys(("num_experts", "experts_per_token", "moe_intermediate_size", "first_k_dense"))
    expert = facts.get("moe_intermediate_size") or facts.get("intermediate_size")
    shared = _first(inner, ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"))
    count = facts.get("num_shared_experts", 0)
    if shared is None and count and expert:
        shared = count * expert
    if str(inner.get("model_type", "")).startswith("llama4"):
        count, shared = 1, expert
    if shared and not count:
        count = 1
    return {
        "moe_intermediate_size": expert,
        "num_shared_experts": count,
        "shared_expert_intermediate": shared or 0,
    }


def _moe_layers(inner: Config, model: Model) -> int:
    """How many layers hold experts: frequency, steps, lists of dense layers and leading dense layers."""
    layers = model.num_layers or 0
    if model.num_experts is None:
        return 0
    frequency = inner.get("moe_layer_freq")
    if isinstance(frequency, list):
        return sum(bool(item) for item in frequency[:layers])
    step = _first(inner, ("decoder_sparse_step", "interleave_moe_layer_step")) or 1
    dense = inner.get("mlp_only_layers") or []
    return sum(
        (index + 1) % step == 0 and index not in dense and index >= (model.first_k_dense or 0)
        for index in range(layers)
    )


def _extras(config: Config, inner: Config, model: Model) -> Extras:
    kind = inner.get("model_type")
    indexer = 0
    if (width := _first(inner, ("index_head_dim",))) and model.q_lora_rank and model.hidden_size:
        heads = _first(inner, ("index_n_heads",)) or 0
        indexer = heads * width * model.q_lora_rank + model.hidden_size * (width + heads)
    positions = (model.max_position_embeddings or 0) if kind in POSITIONS else 0
    beside = (model.intermediate_size or 0) if str(kind).startswith("gemma4") else 0
    return Extras(
        mlp_matrices=2 if kind in PLAIN_MLP else 3,
        positions=positions,
        moe_layers=_moe_layers(inner, model),
        beside_moe=beside,
        dense_width=_first(inner, ("intermediate_size_mlp",)),
        indexer=indexer,
        other=_tower(config.get("vision_config")),
    )


def _tower(vision: object) -> int:
    """Weights of a vision tower: attention and feed-forward of each layer, and the merger to the decoder."""
    if not isinstance(vision, dict):
        return 0
    layers = _first(vision, ("depth", "num_hidden_layers", "vt_num_hidden_layers")) or 0
    width = _first(vision, ("hidden_size", "vt_hidden_size")) or 0
    inner = _first(vision, ("intermediate_size", "vt_intermediate_size")) or 4 * width
    merge = (_first(vision, ("spatial_merge_size",)) or 0) ** 2 * width
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    out = _first(vision, ("out_hidden_size",)) or 0
    return layers * (4 * width * width + 2 * width * inner) + mergers * merge * (merge + out)


def _quantization(config: Config) -> str | None:
    """Number format that the checkpoint is stored in, None for plain weights or one it does not name."""
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, dict):
        return None
    text = json.dumps(found).lower()
    method = str(found.get("quant_method", "")).lower()
    if method in ("fp8", "mxfp4", "awq", "gptq", "nvfp4"):
        return method
    for word, name in (("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"), ("fp8", "fp8"), ("float-quantized", "fp8")):
        if word in text:
            return name
    if method == "bitsandbytes":
        return "bitsandbytes" if found.get("load_in_4bit") else "int8"
    return "int4" if '"num_bits": 4' in text else "int8" if '"num_bits": 8' in text else method or None
