"""Readers of unknown models and devices: config.json, diffusers folders, GGUF heads, TOML."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.catalog import find_device, find_model, parse_hardware
from metainf.catalog.gguf import read_gguf
from metainf.catalog.huggingface import model_of
from metainf.domain import BadInput


def write_config(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


DENSE = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}


def test_dense_config(tmp_path: Path) -> None:
    model = find_model(str(write_config(tmp_path / "Tiny", **DENSE, torch_dtype="bfloat16")))
    attention = 512 * 64 * 2 * (8 + 2)
    weights = 4 * (attention + 3 * 512 * 1024 + 2 * 512) + 2 * 1000 * 512
    assert model.name == "Tiny"
    assert (model.head_dim, model.num_kv_heads, model.attention, model.dtype) == (64, 2, "GQA", "bfloat16")
    assert model.params_b == pytest.approx(weights / 1e9, abs=1e-4)
    assert model == find_model(str(tmp_path / "Tiny" / "config.json"))


def test_mixture_of_experts_counts_active_apart() -> None:
    config = DENSE | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    model = model_of(config, "moe")
    dense = model_of(DENSE, "dense")
    assert model.params_b is not None
    assert model.active_params_b is not None
    assert dense.params_b is not None
    expert = 3 * 512 * 1024 * 4 / 1e9
    assert model.params_b == pytest.approx(dense.params_b + 7 * expert, abs=3e-4)
    assert model.active_params_b == pytest.approx(dense.params_b + expert, abs=3e-4)


def test_latent_attention() -> None:
    config = DENSE | {
        "model_type": "deepseek_v3",
        "kv_lora_rank": 128,
        "q_lora_rank": None,
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
    }
    model = model_of(config, "mla")
    assert (model.attention, model.num_kv_heads, model.head_dim, model.q_lora_rank) == ("MLA", None, 96, None)
    attention = 512 * 8 * 96 + 512 * (128 + 32) + 128 * 8 * 128 + 8 * 64 * 512
    weights = 4 * (attention + 3 * 512 * 1024 + 1024) + 2 * 1000 * 512
    assert model.params_b == pytest.approx(weights / 1e9, abs=1e-4)


def test_gpt2_style_keys() -> None:
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    model = model_of(config | {"vocab_size": 50257}, "gpt2")
    assert (model.intermediate_size, model.tie_embeddings, model.attention) == (3072, True, "MHA")
    assert model.params_b == pytest.approx(0.1244, rel=0.01)


def test_unknown_structure_has_no_count() -> None:
    model = model_of(DENSE | {"model_type": "tomorrow"}, "new")
    assert model.params_b is None
    assert model.hidden_size == 512


def test_hybrids_keep_a_cache_in_their_attention_layers_only() -> None:
    kinds = ["linear_attention", "full_attention", "linear_attention", "sliding_attention"]
    assert model_of(DENSE | {"layer_types": kinds}, "hybrid").kv_layers == 2
    assert model_of(DENSE | {"hybrid_override_pattern": "M-M*"}, "mamba").kv_layers == 1
    assert model_of(DENSE | {"attn_layer_period": 4, "attn_layer_offset": 1}, "jamba").kv_layers == 1


def test_nested_decoder_and_quantization() -> None:
    quantized = {"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}}
    model = model_of({"model_type": "qwen3_vl", "text_config": DENSE, "vision_config": {}} | quantized, "vl")
    assert (model.modality, model.quantization, model.hidden_size) == ("multimodal", "fp8", 512)
    int4 = {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"num_bits": 4}}}
    assert model_of(DENSE | int4, "w4").quantization == "int4"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hidden_size": 3}', "\xff\xfe", "nonsense"])
def test_broken_config_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput):
        find_model(str(tmp_path))


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.gguf", tmp_path / "absent.json"):
        with pytest.raises(BadInput):
            find_model(str(path))


def safetensors(file: Path, **shapes: list[int]) -> None:
    head = json.dumps({n: {"dtype": "F16", "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()})
    file.write_bytes(struct.pack("<Q", len(head)) + head.encode())


def pipeline(folder: Path) -> Path:
    index = {
        "_class_name": "FluxPipeline",
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": [None, None],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    config = {"num_layers": 3, "num_single_layers": 5, "num_attention_heads": 4, "attention_head_dim": 8}
    for part, shape in (("transformer", [1000, 2000]), ("text_encoder", [500, 1000]), ("vae", [100, 1000])):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config if part == "transformer" else {}))
        safetensors(folder / part / "model.safetensors", a=shape, b=shape)
        safetensors(folder / part / "model.fp16.safetensors", a=shape, b=shape)
    return folder


def test_diffusers_folder(tmp_path: Path) -> None:
    model = find_model(str(pipeline(tmp_path)))
    assert (model.modality, model.denoiser, model.num_layers) == ("image", "FluxTransformer2DModel", 8)
    assert (model.num_heads, model.hidden_size) == (4, 32)
    assert model.denoiser_params_b == pytest.approx(0.004)
    assert model.params_b == pytest.approx(0.004 + 0.001 + 0.0002)


def test_diffusers_folder_without_weights_leaves_sizes_unknown(tmp_path: Path) -> None:
    for file in pipeline(tmp_path).rglob("*.safetensors"):
        file.unlink()
    model = find_model(str(tmp_path))
    assert (model.params_b, model.denoiser_params_b, model.num_layers) == (None, None, 8)


def test_broken_diffusers_folder_is_bad_input(tmp_path: Path) -> None:
    pipeline(tmp_path)
    (tmp_path / "transformer" / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(BadInput, match="safetensors"):
        find_model(str(tmp_path))
    (tmp_path / "transformer" / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json"):
        find_model(str(tmp_path))


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf_bytes(version: int = 3, moe: bool = False) -> bytes:
    pairs = [
        (text("general.architecture"), struct.pack("<I", 8) + text("llama")),
        (text("general.name"), struct.pack("<I", 8) + text("Tiny GGUF")),
        (text("general.file_type"), struct.pack("<II", 4, 15)),
        (text("llama.block_count"), struct.pack("<II", 4, 2)),
        (text("llama.embedding_length"), struct.pack("<II", 4, 512)),
        (text("llama.attention.head_count"), struct.pack("<II", 4, 8)),
        (text("llama.attention.head_count_kv"), struct.pack("<II", 4, 2)),
        (text("tokenizer.ggml.tokens"), struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c")),
    ]
    if moe:
        pairs += [
            (text("llama.expert_count"), struct.pack("<II", 4, 8)),
            (text("llama.expert_used_count"), struct.pack("<II", 4, 2)),
        ]
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 512, 1000, 12, 0),
        text("blk.0.ffn_up_exps.weight" if moe else "blk.0.ffn_up.weight")
        + struct.pack("<IQQIQ", 2, 512, 1024, 14, 0),
    ]
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    return head + b"".join(k + v for k, v in pairs) + b"".join(tensors)


@pytest.mark.parametrize("version", [2, 3])
def test_gguf_head(tmp_path: Path, version: int) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(gguf_bytes(version))
    model = find_model(str(file))
    weights = 512 * 1000 + 512 * 1024
    assert model.params_b == pytest.approx(weights / 1e9)
    assert (model.name, model.quantization, model.num_layers) == ("Tiny GGUF", "Q4_K_M", 2)
    assert (model.attention, model.head_dim, model.vocab_size) == ("GQA", 64, 3)
    expected = (512 * 1000 * 4.5 + 512 * 1024 * 6.5625) / weights
    assert read_gguf(file).bits_per_weight == pytest.approx(expected)
    assert find_model(str(tmp_path)) == model


def test_gguf_experts(tmp_path: Path) -> None:
    file = tmp_path / "moe.gguf"
    file.write_bytes(gguf_bytes(moe=True))
    assert find_model(str(file)).active_params_b == pytest.approx((512 * 1000 + 512 * 1024 / 4) / 1e9)


@given(cut=st.integers(0, len(gguf_bytes()) - 1))
def test_truncated_gguf_is_bad_input(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.getbasetemp() / "cut.gguf"
    file.write_bytes(gguf_bytes()[:cut])
    with pytest.raises(BadInput):
        find_model(str(file))


@given(st.binary(max_size=200))
def test_foreign_gguf_is_bad_input(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "junk.gguf"
    for head in (b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, 1, 1)):
        file.write_bytes(head + junk)
        with pytest.raises(BadInput):
            find_model(str(file))


def test_device_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[device]\nname = "Mine"\nmemory_gib = 48\nmemory_bandwidth_gb_per_s = 900.5\nkind = "gpu"\n'
    )
    assert find_device(str(file)).memory_bandwidth_gb_per_s == 900.5
    assert parse_hardware(f"2x{file}")[0].device.name == "Mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"', "missing memory_gib"),
        ('name = "a"\nmemory_gib = 1\nmemory_bandwidth_gb_per_s = 2\nbandwith = 3', "unknown bandwith"),
        ('name = "a"\nmemory_gib = -1\nmemory_bandwidth_gb_per_s = 2', "memory_gib"),
        ('name = "a"\nmemory_gib = nan\nmemory_bandwidth_gb_per_s = 2', "memory_gib|NaN|JSON"),
        ("= broken", "not TOML"),
        ("device = 3", r"\[device\]"),
    ],
)
def test_broken_device_file_names_keys_and_units(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        find_device(str(file))


def test_absent_device_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        find_device(str(tmp_path / "none.toml"))
