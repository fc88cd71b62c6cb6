"""What each engine proposes where, and the exact flags it starts with."""

import json

import pytest

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Flags,
    FusedQkv,
    Hardware,
    KvQuantization,
    MemoryMode,
    Method,
    Model,
    NotSupported,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    UnknownName,
    WeightQuantization,
    Workload,
)
from metainf.engines import Launch, engine
from metainf.engines.candidates import layouts
from metainf.testing.engine_suite import CHAT, DENSE_8B, H100, IMAGE

LAPTOP = Device(name="apple-m3-max", vendor="Apple", kind="apu", memory_gib=64)
T4 = Device(name="t4", vendor="NVIDIA", kind="gpu", memory_gib=16, compute_capability="7.5")
B200 = Device(name="b200", vendor="NVIDIA", kind="gpu", memory_gib=180, compute_capability="10.0")
MI300X = Device(name="mi300x", vendor="AMD", kind="gpu", arch="CDNA3", memory_gib=192)
MOE = DENSE_8B.model_copy(update={"name": "Qwen/Qwen3-30B-A3B", "num_experts": 128, "num_kv_heads": 4})
STORED_FP8 = DENSE_8B.model_copy(update={"name": "Qwen/Qwen3-8B-FP8", "quantization": "fp8"})


def start(
    name: str, *techniques: Technique, model: Model = DENSE_8B, count: int = 8, device: Device = H100
) -> Launch:
    method = Method(engine=name, techniques=techniques)
    return engine(name).launch(model, method, Hardware(device=device, count=count), CHAT)


def formats(name: str, device: Device, model: Model = DENSE_8B, count: int = 1) -> set[str]:
    methods = engine(name).methods(model, Hardware(device=device, count=count), CHAT)
    return {w.format if (w := m.get(WeightQuantization)) else "none" for m in methods}


def test_vllm_spreads_a_model_over_the_cores_of_one_processor() -> None:
    epyc = Device(name="AMD EPYC", kind="cpu", memory_gib=23)
    launch = start("vllm", Parallelism(tensor=1, pipeline=2), count=1, device=epyc)
    assert launch.argv[3:7] == ("--tensor-parallel-size", "1", "--pipeline-parallel-size", "2")
    assert launch.env["VLLM_CPU_SIM_MULTI_NUMA"] == "1"
    assert not start("vllm", Parallelism(tensor=1, pipeline=1), count=1, device=epyc).env
    assert not start("vllm", Parallelism(tensor=2), count=2).env
    with pytest.raises(BadInput, match="2 devices wanted, 1 there"):
        start("vllm", Parallelism(tensor=2), count=1)


def test_vllm_command_in_full() -> None:
    launch = start(
        "vllm",
        Parallelism(tensor=4),
        WeightQuantization(format="fp8"),
        Batching(max_sequences=64),
        ChunkedPrefill(tokens=8192),
        PrefixCache(),
        KvQuantization(format="fp8"),
        Speculative(algorithm="ngram", tokens=4),
    )
    assert launch.command == (
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 4 --quantization fp8 "
        "--max-num-seqs 64 --enable-chunked-prefill --max-num-batched-tokens 8192 --enable-prefix-caching "
        "--kv-cache-dtype fp8 --speculative-config '"
        '{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_min":2,"prompt_lookup_max":5}'
        "' --max-model-len 2560"
    )


def test_sglang_command_in_full() -> None:
    launch = start(
        "sglang",
        Parallelism(tensor=2, data=2),
        PrefixCache(enabled=False),
        ChunkedPrefill(tokens=4096),
        Batching(max_sequences=32),
        KvQuantization(format="fp8"),
        Speculative(algorithm="eagle3", tokens=3, draft_model="a/draft"),
    )
    assert launch.command == (
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct "
        "--tp-size 2 --dp-size 2 "
        "--max-running-requests 32 --chunked-prefill-size 4096 --disable-radix-cache "
        "--kv-cache-dtype fp8_e4m3 --speculative-algorithm EAGLE3 --speculative-draft-model-path a/draft "
        "--speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4 "
        "--context-length 2560"
    )


def test_tensorrt_llm_writes_its_options_file() -> None:
    launch = start(
        "tensorrt-llm",
        Parallelism(tensor=8, expert=8, attention_data=True),
        Batching(max_sequences=128),
        ChunkedPrefill(tokens=8192),
        PrefixCache(enabled=False),
        Speculative(algorithm="mtp", tokens=2),
        model=MOE,
    )
    assert "--tp_size 8 --ep_size 8 --max_batch_size 128 --max_num_tokens 8192" in launch.command
    (text,) = launch.files.values()
    assert json.loads(text) == {
        "enable_attention_dp": True,
        "enable_chunked_prefill": True,
        "kv_cache_config": {"enable_block_reuse": False},
        "speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 2},
    }
    assert launch.command.startswith("printf %s ")


def test_llama_cpp_command_in_full() -> None:
    launch = start(
        "llama.cpp",
        WeightQuantization(format="Q4_K_M"),
        Parallelism(tensor=1, pipeline=2),
        Batching(max_sequences=4),
        KvQuantization(format="q8_0"),
        AttentionBackend(name="flash"),
        PrefixCache(enabled=False),
    )
    assert launch.command == (
        "llama-server -m Llama-3.1-8B-Instruct-Q4_K_M.gguf -ngl all -sm layer -cb -np 4 "
        "--no-cache-prompt -cram 0 -ctk q8_0 -ctv q8_0 -fa on -c 10240"
    )
    assert any("llama-quantize" in note for note in launch.notes)


@pytest.mark.parametrize(
    ("batching", "requests"),
    [((), 4), ((Batching(),), 4), ((Batching(max_sequences=6),), 6), ((Batching(mode="none"),), 1)],
)
def test_llama_cpp_has_a_context_for_all_its_slots(batching: tuple[Batching, ...], requests: int) -> None:
    """Without -np llama-server opens four slots, as in an open loop, whose need nobody knows."""
    argv = start("llama.cpp", *batching).argv
    assert argv[argv.index("-c") + 1] == str(2560 * requests)
    assert ("-np" in argv) is (batching != () and batching != (Batching(),))


def test_llama_cpp_takes_a_file_as_it_is() -> None:
    file = DENSE_8B.model_copy(update={"source": "/models/a.gguf"})
    assert start("llama.cpp", model=file).argv[:3] == ("llama-server", "-m", "/models/a.gguf")


def test_diffusers_program_compiles_and_holds_the_recipe() -> None:
    launch = start(
        "diffusers",
        Precision(dtype="bf16"),
        AttentionBackend(name="sdpa"),
        Compile(),
        FusedQkv(),
        WeightQuantization(format="int8dq"),
        model=IMAGE,
        count=1,
    )
    (text,) = launch.files.values()
    compile(text, "draw.py", "exec")
    for step in (
        "torch.bfloat16",
        "fuse_qkv_projections()",
        "Int8DynamicActivationInt8WeightConfig",
        ".compile(",
    ):
        assert step in text


def test_diffusers_offloads_when_nothing_fits() -> None:
    small = Device(name="rtx", vendor="NVIDIA", kind="gpu", memory_gib=4, compute_capability="8.6")
    methods = engine("diffusers").methods(IMAGE, Hardware(device=small, count=1), Workload())
    assert methods and all(method.get(MemoryMode) for method in methods)
    for method in methods:
        (text,) = (
            engine("diffusers")
            .launch(IMAGE, method, Hardware(device=small, count=1), Workload())
            .files.values()
        )
        compile(text, "draw.py", "exec")
        assert "cpu_offload()" in text and "pipe.to(" not in text


def test_formats_follow_the_device() -> None:
    assert formats("vllm", H100) == {"none", "fp8", "awq", "int8"}
    assert "nvfp4" in formats("vllm", B200) and "nvfp4" not in formats("vllm", H100)
    assert formats("vllm", MI300X) == {"none", "fp8"}
    small = DENSE_8B.model_copy(update={"params_b": 3.0})
    assert "fp8" not in formats("vllm", T4, small)


def test_a_quantized_checkpoint_is_served_as_stored() -> None:
    assert formats("vllm", H100, STORED_FP8) == {"fp8"}
    launch = start("vllm", WeightQuantization(format="fp8"), model=STORED_FP8)
    assert "--quantization" not in launch.argv
    assert any("already" in note for note in launch.notes)


def test_who_serves_what() -> None:
    assert engine("vllm").methods(DENSE_8B, Hardware(device=LAPTOP, count=1), CHAT) == []
    assert engine("tensorrt-llm").methods(DENSE_8B, Hardware(device=MI300X, count=1), CHAT) == []
    assert engine("sglang").methods(DENSE_8B, Hardware(device=T4, count=1), CHAT) == []
    assert engine("llama.cpp").methods(DENSE_8B, Hardware(device=LAPTOP, count=1), CHAT)


def test_layouts_use_all_devices_and_divide_the_heads() -> None:
    for count in (1, 2, 3, 4, 6, 8, 16):
        for layout in layouts(MOE, Hardware(device=H100, count=count)):
            tensor, pipeline, data = (d or 1 for d in (layout.tensor, layout.pipeline, layout.data))
            assert tensor * pipeline * data == count
            assert 32 % tensor == 0 and tensor <= 8


def test_tensor_parallelism_stays_inside_a_node() -> None:
    found = layouts(DENSE_8B, Hardware(device=H100, count=16, nodes=2))
    assert max(layout.tensor or 1 for layout in found) == 8


def test_known_drafts_and_heads_are_proposed() -> None:
    def speculation(model: Model) -> set[str]:
        methods = engine("vllm").methods(model, Hardware(device=H100, count=1), CHAT)
        return {s.algorithm for m in methods if (s := m.get(Speculative))}

    assert speculation(DENSE_8B) == {"ngram", "eagle3"}
    assert speculation(DENSE_8B.model_copy(update={"name": "XiaomiMiMo/MiMo-7B-Base"})) == {"ngram", "mtp"}


def test_hopeless_memory_still_proposes_something_to_explain() -> None:
    huge = DENSE_8B.model_copy(update={"params_b": 400.0})
    methods = engine("vllm").methods(huge, Hardware(device=T4, count=1), CHAT)
    assert 0 < len(methods) <= 4


def test_hardware_without_a_count_is_refused() -> None:
    with pytest.raises(BadInput, match="number of devices"):
        engine("vllm").methods(DENSE_8B, Hardware(device=H100, count=None), CHAT)


def test_too_many_degrees_are_refused() -> None:
    with pytest.raises(BadInput, match="16 devices wanted, 8 there"):
        start("vllm", Parallelism(tensor=8, data=2))


@pytest.mark.parametrize(
    ("name", "technique", "says"),
    [
        ("vllm", Speculative(algorithm="crystal"), "ngram"),
        ("vllm", Speculative(algorithm="eagle3"), "draft model"),
        ("vllm", WeightQuantization(format="zq17"), "awq"),
        ("vllm", Batching(mode="static"), "continuous"),
        ("sglang", KvQuantization(format="int3"), "fp8_e5m2"),
        ("tensorrt-llm", Parallelism(data=2), "attention_data"),
        ("llama.cpp", WeightQuantization(format="awq"), "Q4_K_M"),
        ("llama.cpp", ChunkedPrefill(enabled=False), "chunks"),
        ("diffusers", MemoryMode(name="lowvram"), "model-cpu-offload"),
        ("diffusers", PrefixCache(), "fused_qkv"),
    ],
)
def test_a_setting_an_engine_lacks_names_what_it_has(name: str, technique: Technique, says: str) -> None:
    with pytest.raises(NotSupported, match=says):
        start(name, technique, model=IMAGE if name == "diffusers" else DENSE_8B)


def test_flags_are_passed_word_for_word() -> None:
    assert start("vllm", Flags(values=("--foo", "b c"))).command.endswith("--foo 'b c'")


def test_a_method_of_another_engine_is_refused() -> None:
    with pytest.raises(BadInput, match="expected a method of vllm, found one of sglang"):
        engine("vllm").launch(DENSE_8B, Method(engine="sglang"), Hardware(device=H100, count=1), CHAT)


def test_unknown_engine_names_near_misses() -> None:
    with pytest.raises(UnknownName, match="vllm"):
        engine("vlm")


def test_harm_is_told_in_the_notes() -> None:
    busy = Workload(concurrency=512)
    method = Method(engine="vllm", techniques=(Speculative(algorithm="ngram", tokens=4),))
    launch = engine("vllm").launch(DENSE_8B, method, Hardware(device=H100, count=1), busy)
    assert any(note.startswith("harmful:") and "issues/47" in note for note in launch.notes)
