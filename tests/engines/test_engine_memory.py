"""Memory arithmetic against figures worked out by hand or published."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import (
    ChunkedPrefill,
    Device,
    Hardware,
    KvQuantization,
    Lengths,
    Method,
    Model,
    Parallelism,
    Precision,
    WeightQuantization,
    Workload,
)
from metainf.engines import memory
from metainf.engines.formats import canonical, format_bits, kv_bits, weight_bits
from metainf.testing.engine_suite import DENSE_8B, H100

L4 = Device(name="l4", vendor="NVIDIA", kind="gpu", memory_gib=24, compute_capability="8.9")
CHAT = Workload(input_tokens=Lengths(mean=1000, max=2000), output_tokens=Lengths(mean=100, max=500))
DEEPSEEK = Model(
    name="deepseek-ai/DeepSeek-V3",
    params_b=671.026,
    num_layers=61,
    kv_layers=61,
    hidden_size=7168,
    num_heads=128,
    num_kv_heads=128,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    vocab_size=129280,
    num_experts=256,
    moe_intermediate_size=2048,
    first_k_dense=3,
    quantization="fp8",
)


def test_weights_of_llama_8b_in_16_bits_are_15_gib() -> None:
    assert memory.weights_gib(DENSE_8B, 16) == pytest.approx(8.03e9 * 2 / 2**30)


def test_quantized_weights_keep_embedding_and_head_in_16_bits() -> None:
    kept = 2 * 128256 * 4096
    expected = ((8.03e9 - kept) * 4.25 + kept * 16) / 8 / 2**30
    assert memory.weights_gib(DENSE_8B, 4.25) == pytest.approx(expected)
    assert memory.weights_gib(DENSE_8B, 4.84, whole=True) == pytest.approx(8.03e9 * 4.84 / 8 / 2**30)


def test_grouped_query_cache_is_128_kib_per_token_for_llama_8b() -> None:
    per_token = memory.kv_gib_per_token(DENSE_8B, 16)
    assert per_token is not None
    assert per_token * 2**30 == 131072


def test_latent_attention_cache_matches_deepseek_and_is_not_split_by_tensor_parallelism() -> None:
    per_token = memory.kv_gib_per_token(DEEPSEEK, 16)
    assert per_token is not None
    assert per_token * 2**30 == 70272  # bytes per token at 16 bits, as published for DeepSeek-V3
    assert memory.kv_gib_per_token(DEEPSEEK, 16, tensor=8) == per_token


def test_hybrid_models_cache_in_their_attention_layers_only() -> None:
    hybrid = DENSE_8B.model_copy(update={"kv_layers": 8})
    full, part = memory.kv_gib_per_token(DENSE_8B), memory.kv_gib_per_token(hybrid)
    assert full is not None and part is not None
    assert part == pytest.approx(full / 4)


def test_tensor_parallelism_replicates_heads_beyond_their_number() -> None:
    eight, sixteen = (memory.kv_gib_per_token(DENSE_8B, 16, tensor) for tensor in (8, 16))
    assert eight == sixteen


def test_reason_tells_the_need_and_what_is_there() -> None:
    method = Method(engine="vllm", techniques=(Precision(dtype="bf16"), Parallelism(tensor=1)))
    big = DENSE_8B.model_copy(update={"params_b": 20.0})
    need = memory.requirement(big, method, Hardware(device=L4, count=1), CHAT)
    assert need is not None and not need.fits
    assert need.max_sequences == 0
    assert f"needs {need.least_gib:.1f} GiB per device" in need.reason
    assert "21.6 GiB usable there" in need.reason


def test_fp8_cache_doubles_the_sequences_that_fit() -> None:
    plain = Method(engine="vllm", techniques=(Precision(dtype="bf16"),))
    fp8 = Method(engine="vllm", techniques=(Precision(dtype="bf16"), KvQuantization(format="fp8")))
    a, b = (memory.requirement(DENSE_8B, m, Hardware(device=H100, count=1), CHAT) for m in (plain, fp8))
    assert a is not None and b is not None
    assert 2 * a.max_sequences <= b.max_sequences <= 2 * a.max_sequences + 1


def test_expert_parallelism_spreads_the_experts_over_data_replicas() -> None:
    replicas = Method(engine="vllm", techniques=(Parallelism(tensor=1, data=8),))
    experts = Method(engine="vllm", techniques=(Parallelism(tensor=1, data=8, expert=8),))
    whole, spread = (
        memory.requirement(DEEPSEEK, m, Hardware(device=H100, count=8), CHAT) for m in (replicas, experts)
    )
    assert whole is not None and spread is not None
    assert whole.weights_gib > 600
    assert 78 < spread.weights_gib < 110


def test_unknown_facts_give_no_requirement() -> None:
    method = Method(engine="vllm", techniques=(Precision(dtype="bf16"),))
    nameless = Model(name="unheard-of")
    assert memory.requirement(nameless, method, Hardware(device=H100, count=1), CHAT) is None
    odd = Method(engine="vllm", techniques=(WeightQuantization(format="zq17"),))
    assert memory.requirement(DENSE_8B, odd, Hardware(device=H100, count=1), CHAT) is None


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.integers(256, 32768))
def test_more_devices_never_need_more_each(tensor: int, pipeline: int, chunk: int) -> None:
    def need(t: int, p: int) -> memory.Requirement:
        layout = Parallelism(tensor=t, pipeline=p)
        method = Method(engine="vllm", techniques=(layout, ChunkedPrefill(tokens=chunk)))
        found = memory.requirement(DENSE_8B, method, Hardware(device=H100, count=64), CHAT)
        assert found is not None
        return found

    one, more = need(tensor, pipeline), need(tensor * 2, pipeline)
    assert more.weights_gib <= one.weights_gib
    assert more.least_gib <= one.least_gib
    assert more.max_sequences >= one.max_sequences


@pytest.mark.parametrize(
    ("written", "meant"),
    [("fp8_e4m3", "fp8"), ("modelopt_fp4", "nvfp4"), ("awq_marlin", "awq"), ("Q4_K_M", "q4_k_m")],
)
def test_spellings_of_one_format_meet(written: str, meant: str) -> None:
    assert canonical(written) == meant


def test_bits_come_from_the_method_then_the_checkpoint() -> None:
    assert weight_bits(DEEPSEEK, Method(engine="vllm")) == 8
    assert weight_bits(DENSE_8B, Method(engine="vllm")) == 16
    q4 = Method(engine="llama.cpp", techniques=(WeightQuantization(format="Q4_K_M"),))
    assert weight_bits(DENSE_8B, q4) == format_bits("Q4_K_M") == 4.84
    assert kv_bits(Method(engine="vllm", techniques=(KvQuantization(format="zq"),))) is None
