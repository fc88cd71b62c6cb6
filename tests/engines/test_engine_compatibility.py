"""The compatibility table: well formed, sourced, and firing where it should and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Batching,
    Device,
    Hardware,
    KvQuantization,
    Method,
    Model,
    Parallelism,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import ENGINES, check
from metainf.engines.compatibility import holds, reference_version, rows, version_within
from metainf.testing.engine_suite import CHAT, DENSE_8B, H100

HYBRID = DENSE_8B.model_copy(update={"name": "Qwen/Qwen3.5-27B", "num_layers": 64, "kv_layers": 16})
MLA = DENSE_8B.model_copy(update={"kv_lora_rank": 512, "qk_rope_head_dim": 64})
A100 = Device(name="a100", vendor="NVIDIA", kind="gpu", memory_gib=80, compute_capability="8.0")


def fired(
    engine: str,
    *techniques: Technique,
    model: Model = DENSE_8B,
    version: str | None = None,
    workload: Workload = CHAT,
    device: Device = H100,
) -> set[str]:
    method = Method(engine=engine, engine_version=version, techniques=techniques)
    return {finding.rule for finding in check(method, model, workload, Hardware(device=device, count=8))}


def test_rows_are_named_once_sourced_and_explained() -> None:
    table = rows()
    assert len(table) >= 25
    assert len({row.rule for row in table}) == len(table)
    for row in table:
        assert row.engine in ENGINES
        assert row.rule.startswith(row.engine)
        assert row.source.startswith("https://")
        assert len(row.why) > 20 and row.when
        assert row.techniques, f"{row.rule} names no technique"


def test_every_condition_and_bound_parses() -> None:
    for row in rows():
        version_within("1.0", row.versions)
        for condition in row.when:
            assert holds(condition, {}) is False


def test_every_engine_with_rows_has_a_reference_version() -> None:
    assert all(reference_version(row.engine) for row in rows())


@pytest.mark.parametrize(("version", "meets"), [("0.15.0", True), ("0.9.2", True), ("0.16.0", False)])
def test_pipeline_and_speculation_conflict_up_to_0_15(version: str, meets: bool) -> None:
    found = fired("vllm", Parallelism(pipeline=2), Speculative(algorithm="ngram"), version=version)
    assert ("vllm-pipeline-speculative" in found) is meets


def test_prefix_cache_is_silent_on_hybrid_models_only() -> None:
    assert "vllm-prefix-hybrid" in fired("vllm", PrefixCache(), model=HYBRID)
    assert fired("vllm", PrefixCache()) == set()
    assert fired("vllm", PrefixCache(enabled=False), model=HYBRID) == set()


def test_prefix_cache_with_mtp_is_harmful() -> None:
    found = fired("vllm", PrefixCache(), Speculative(algorithm="mtp"), model=HYBRID, version="0.20")
    assert "vllm-prefix-mtp" in found


def test_ngram_harms_only_under_load() -> None:
    busy = Workload(concurrency=256)
    assert "vllm-ngram-load" in fired("vllm", Speculative(algorithm="ngram"), workload=busy)
    for workload in (Workload(concurrency=4), Workload()):
        assert "vllm-ngram-load" not in fired("vllm", Speculative(algorithm="ngram"), workload=workload)


def test_drafts_without_a_model_cost_asynchronous_scheduling() -> None:
    assert fired("vllm", Speculative(algorithm="ngram"), workload=Workload()) == {"vllm-drafts-async"}
    assert fired("vllm", Speculative(algorithm="eagle3", draft_model="d")) == set()
    assert fired("vllm", Speculative(algorithm="ngram"), version="0.11.0") == set()


def test_gguf_left_vllm_with_0_24() -> None:
    weights = WeightQuantization(format="Q4_K_M")
    assert fired("vllm", weights) == {"vllm-gguf-plugin"}
    assert fired("vllm", weights, version="0.11.0") == {"vllm-gguf"}
    assert fired("vllm", WeightQuantization(format="bitsandbytes")) == {"vllm-bitsandbytes"}


def test_an_mtp_head_on_pipeline_stages_depends_on_its_family() -> None:
    techniques = (Speculative(algorithm="mtp"), Parallelism(pipeline=2))
    assert "vllm-pipeline-mtp-some" in fired("vllm", *techniques)
    assert fired("vllm", *techniques, model=MLA) == set()
    assert "vllm-pipeline-mtp" in fired("vllm", *techniques, model=MLA, version="0.20")


def test_flash_attention_reads_an_fp8_cache_on_few_devices() -> None:
    flash, cache = AttentionBackend(name="FLASH_ATTN"), KvQuantization(format="fp8")
    desktop = Device(name="rtx-5090", vendor="NVIDIA", kind="gpu", compute_capability="12.0")
    assert fired("vllm", flash, cache) == set()
    assert "vllm-kv-fp8-flash-attention-2" in fired("vllm", flash, cache, device=A100)
    assert "vllm-kv-fp8-flash-attention-blackwell-desktop" in fired("vllm", flash, cache, device=desktop)
    assert "vllm-kv-e5m2-flash-attention" in fired("vllm", flash, KvQuantization(format="fp8_e5m2"))


def test_ngram_drafts_of_sglang_know_three_makers() -> None:
    amd = Device(name="mi300x", vendor="AMD", kind="gpu", arch="CDNA3")
    assert "sglang-ngram-cuda" in fired("sglang", Speculative(algorithm="ngram"), device=amd)
    assert "sglang-ngram-cuda" not in fired("sglang", Speculative(algorithm="ngram"))


def test_device_conditions_look_at_compute_capability() -> None:
    fp8 = KvQuantization(format="fp8")
    assert "vllm-kv-fp8-mla-ampere" in fired("vllm", fp8, model=MLA, device=A100)
    assert fired("vllm", fp8, model=MLA) == set()
    volta = Device(name="v100", vendor="NVIDIA", compute_capability="7.0")
    assert "vllm-awq-pre-turing" in fired("vllm", WeightQuantization(format="awq"), device=volta)


def test_device_rows_stay_silent_without_hardware() -> None:
    method = Method(engine="vllm", techniques=(KvQuantization(format="fp8"),))
    assert check(method, MLA, CHAT) == []


def test_llama_cpp_needs_flash_attention_for_a_quantized_cache() -> None:
    cache = KvQuantization(format="q8_0")
    assert fired("llama.cpp", cache, AttentionBackend(name="off")) == {"llama.cpp-kv-flash-off"}
    assert fired("llama.cpp", cache, AttentionBackend(name="flash")) == set()
    assert fired("llama.cpp", cache, Parallelism(tensor=2)) == {"llama.cpp-tensor-kv"}


def test_findings_name_techniques_and_source() -> None:
    method = Method(engine="tensorrt-llm", techniques=(Parallelism(pipeline=2), Speculative(algorithm="mtp")))
    (finding,) = check(method, DENSE_8B, CHAT)
    assert finding.techniques == ("speculative", "parallelism")
    assert finding.effect == "conflict"
    assert "NVIDIA" in finding.source


def test_draft_slots_row_reads_a_number() -> None:
    draft = Speculative(algorithm="draft", draft_model="small.gguf")
    assert fired("llama.cpp", draft, Batching(max_sequences=4)) == {"llama.cpp-draft-slots"}
    assert fired("llama.cpp", draft, Batching(max_sequences=1)) == set()


@pytest.mark.parametrize("text", ["a b c d", "x >> 3", ""])
def test_a_bad_condition_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected"):
        holds(text, {})


def test_a_bad_bound_is_refused() -> None:
    with pytest.raises(BadInput, match="bound"):
        version_within("1.0", "~1.0")


def test_an_unknown_version_meets_only_no_bounds() -> None:
    assert version_within(None, "") and not version_within(None, ">=0")


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=3), st.lists(st.integers(0, 50), min_size=1, max_size=3)
)
def test_versions_order_as_numbers(left: list[int], right: list[int]) -> None:
    a, b = ".".join(map(str, left)), ".".join(map(str, right))
    wide = [side + [0] * (3 - len(side)) for side in (left, right)]
    assert version_within(a, f"<={b}") == (wide[0] <= wide[1])
    assert version_within(a, f">{b}") == (wide[0] > wide[1])
