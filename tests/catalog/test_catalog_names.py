"""Names as people and benchmark files write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.catalog import (
    activation_bits,
    canonical_format,
    find_device,
    find_model,
    model_group,
    models,
    parse_hardware,
    parse_price,
    price,
    quality,
    tiers,
    weight_bits,
)
from metainf.domain import BadInput, UnknownName

DEVICES = {
    "H100": "h100-sxm",
    "h100": "h100-sxm",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "A100": "a100-80-sxm",
    "A100-80GB": "a100-80-sxm",
    "A100-40GB": "a100-40-sxm",
    "NVIDIA A100-PCIE-40GB": "a100-40-pcie",
    "NVIDIA A100 80GB PCIe": "a100-80-pcie",
    "NVIDIA GH200 480GB": "gh200-96",
    "RTX 4090 24GB": "rtx-4090",
    "RTX4090": "rtx-4090",
    "RTX 4090 22GB": "rtx-4090",
    "RTX 4090 0GB": "rtx-4090",
    "RTX 2080 Ti 22GB": "rtx-2080-ti-22",
    "RTX 2080 Ti 11GB": "rtx-2080-ti",
    "RTX 3060 8GB": "rtx-3060-8",
    "RTX 3060": "rtx-3060-12",
    "RTX 3080 Laptop GPU 16GB": "rtx-3080-laptop-16",
    "Tesla T4 15GB": "t4",
    "MI300X": "mi300x",
    "AMD Instinct MI350X 288GB HBM3e": "mi350x",
    "RyzenAIMax395-StrixHalo": "ryzen-ai-max-395",
    "PVC-Max1550": "max-1550",
    "TPU Trillium": "tpu-v6e",
    "Intel(R) Arc Pro(R) B60": "arc-pro-b60",
    "[MAXSUN] MS-Intel Arc Pro B60 Dual 48G Turbo": "arc-pro-b60-dual",
    "Ascend910B": "ascend-910b",
    "7900 XTX": "rx-7900-xtx",
}
MODELS = {
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "Llama2-7B": "meta-llama/Llama-2-7b-hf",
    "Llama 2 13B": "meta-llama/Llama-2-13b-hf",
    "GPT-OSS-120B": "openai/gpt-oss-120b",
    "Vicuna-33B-v1.3": "lmsys/vicuna-33b-v1.3",
    "llama2-70b-99.9": "meta-llama/Llama-2-70b-hf",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "FLUX.1-dev": "black-forest-labs/FLUX.1-dev",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "Qwen/Qwen2-7B": "Qwen/Qwen2-7B-Instruct",
}


@pytest.mark.parametrize(("written", "name"), DEVICES.items())
def test_device_names_resolve(written: str, name: str) -> None:
    assert find_device(written).name == name


@pytest.mark.parametrize(
    "written", ["RTX 4090 48GB", "H100 640GB", "0GB 0GB", "", "AMD Radeon Graphics 32GB"]
)
def test_a_device_that_does_not_exist_is_refused(written: str) -> None:
    with pytest.raises(UnknownName):
        find_device(written)


def test_near_misses_are_named() -> None:
    with pytest.raises(UnknownName) as device:
        find_device("H1000")
    assert any("H100" in near.upper() for near in device.value.near)
    with pytest.raises(UnknownName) as model:
        find_model("meta-llama/Lama-3.1-8B-Instruct")
    assert any("Llama-3.1-8B" in near for near in model.value.near)


@pytest.mark.parametrize(("written", "name"), [(w, n) for w, n in MODELS.items() if n])
def test_model_names_resolve(written: str, name: str) -> None:
    assert find_model(written) == models()[name]


def test_unlisted_number_format_becomes_the_quantization() -> None:
    plain, packed = find_model("deepseek-ai/DeepSeek-R1"), find_model("nvidia/Llama-3.1-8B-Instruct-FP8")
    assert packed.quantization == "fp8"
    assert packed.params_b == find_model("Llama-3.1-8B-Instruct").params_b
    assert plain.num_experts == 256
    assert find_model("Qwen3-8B-Q4_K_M").quantization == "q4_k_m"


@pytest.mark.parametrize(
    "same",
    [
        [
            "deepseek-ai/DeepSeek-R1",
            "nvidia/DeepSeek-R1-NVFP4",
            "deepseek-ai/DeepSeek-V3",
            "deepseek-r1",
            "deepseek-ai/DeepSeek-V3.1",
            "deepseek-ai/DeepSeek-R1-0528",
            "nvidia/DeepSeek-V3.1-NVFP4",
        ],
        [
            "Llama-3.1-8B",
            "meta-llama/Llama-3.1-8B-Instruct",
            "nvidia/Llama-3.1-8B-Instruct-FP8",
            "meta-llama/Meta-Llama-3-8B",
            "shisa-v2-llama3.1-8b",
            "llama3.1-8b-datacenter",
        ],
        ["Qwen/Qwen3-32B", "nvidia/Qwen3-32B-NVFP4", "Qwen3-32B", "Qwen/Qwen3-32B-FP8"],
        ["stable-diffusion-xl", "stabilityai/sdxl-turbo", "stabilityai/stable-diffusion-xl-base-1.0"],
        ["Unlisted-9B", "someone/unlisted-9b-Instruct", "Unlisted-9B-Instruct-AWQ"],
    ],
)
def test_variants_of_an_architecture_are_one_group(same: list[str]) -> None:
    assert len({model_group(name) for name in same}) == 1


def test_other_architectures_are_other_groups() -> None:
    names = [
        "Llama-3.1-8B",
        "Llama-3.1-70B",
        "Mistral-7B-v0.1",
        "Llama-2-7b-hf",
        "Qwen2-7B",
        "Kimi-K2-Instruct",
    ]
    names += ["DeepSeek-V3", "gpt-oss-20b", "gpt-oss-120b", "FLUX.1-dev", "Unlisted-9B", "Unlisted-8B"]
    assert len({model_group(name) for name in names}) == len(names)


def test_hardware_in_one_line() -> None:
    assert [(h.device.name, h.count) for h in parse_hardware("4xL4")] == [("l4", 4)]
    for text in ("1-4xL4", "1–4 × L4"):
        assert [h.count for h in parse_hardware(text)] == [1, 2, 3, 4]
    pair = parse_hardware("h100, 2xh100-sxm@3.5")
    assert [(h.device.name, h.count) for h in pair] == [("h100-sxm", 1), ("h100-sxm", 2)]
    assert parse_price("2xh100-sxm@3.5,l4") == {"h100-sxm": 3.5}
    assert parse_hardware("2xA6000")[0].device.name == "rtx-a6000"


@pytest.mark.parametrize("text", ["0xL4", "4-2xL4", "", "2xh100@0", "2xh100@", "99999xL4", "2x"])
def test_hardware_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_hardware(text)


@given(st.integers(1, 64), st.integers(0, 8), st.sampled_from(["H100", "l4", "RTX 4090", "mi300x"]))
def test_a_range_gives_one_entry_for_each_count(low: int, more: int, device: str) -> None:
    found = parse_hardware(f"{low}-{low + more}x{device}")
    assert [h.count for h in found] == list(range(low, low + more + 1))


@given(st.text(max_size=40))
def test_any_text_is_either_found_or_refused(text: str) -> None:
    for find in (find_device, parse_hardware):
        try:
            assert find(text)
        except BadInput as error:
            assert str(error)


def test_prices() -> None:
    h100 = price("H100")
    assert h100 is not None
    assert (h100.usd_per_device_hour, h100.date) == (2.59, "2026-05-24")
    assert h100.low < h100.usd_per_device_hour < h100.high
    spot = price("NVIDIA H100 80GB HBM3", "spot")
    assert spot is not None
    assert spot.usd_per_device_hour < h100.usd_per_device_hour
    assert price("Ascend910B") is None
    assert price("H100", "gift") is None
    assert {"on-demand", "spot"} <= set(tiers("H100"))
    with pytest.raises(UnknownName):
        price("H9000")


def test_quality() -> None:
    fp8, low = quality("fp8"), quality("Q2_K")
    assert fp8 is not None
    assert low is not None
    assert low.mean < 0.9 < fp8.mean <= 1
    own = quality("awq", "Llama-2-7b-chat-hf")
    assert own is not None
    assert own.group == model_group("Llama-2-7b")
    assert quality("bf16") == quality("BF16")
    assert quality("no-such-format") is None
    assert quality("awq", "FLUX.1-dev") is None
    assert quality("fp4", "FLUX.1-dev") is not None


@pytest.mark.parametrize(
    ("written", "weight", "activation"),
    [
        ("fp8", 8, 8),
        ("FP8 Static", 8, 8),
        ("awq", 4.25, 16),
        ("GPTQ-Marlin (Int4)", 4.25, 16),
        ("gptq (int8)", 8, 16),
        ("int8dq", 8, 8),
        ("int8wo", 8, 16),
        ("nvfp4", 4.5, 4),
        ("Q8_0", 8.5, 16),
        ("F16", 16, 16),
        ("bfloat16", 16, 16),
    ],
)
def test_bits(written: str, weight: float, activation: float) -> None:
    assert (weight_bits(written), activation_bits(written)) == (weight, activation)


def test_gguf_mixes() -> None:
    bits = weight_bits("Q4_K_M")
    assert bits is not None
    assert 4.7 < bits < 5
    for written in ("i1-Q4_K_M", "GGUF (Q4_K_M)", "UD-Q4_K_XL", "q4_k_m"):
        assert canonical_format(written) == "q4_k_m"
    assert weight_bits("gibberish") is None
    assert activation_bits("gibberish") is None
