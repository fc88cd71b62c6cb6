"""The prior: finite for anything, and monotone where physics says so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import Device, Hardware, Lengths, Method, Model, Parallelism, Workload
from metainf.domain.method import (
    Batching,
    Disaggregation,
    Flags,
    Pool,
    PrefixCache,
    Speculative,
    WeightQuantization,
)
from metainf.embed import prior
from metainf.embed.columns import Columns, columns
from metainf.embed.layout import whole
from metainf.embed.physics import terms
from metainf.testing import strategies as made

DENSE = Model(
    name="dense-8b", params_b=8.0, active_params_b=8.0, num_layers=32, hidden_size=4096, num_heads=32,
    num_kv_heads=8, head_dim=128, vocab_size=128256,
)  # fmt: skip
SPARSE = Model(
    name="sparse-100b", params_b=100.0, active_params_b=8.0, num_layers=40, hidden_size=4096, num_heads=32,
    num_kv_heads=4, head_dim=128, vocab_size=150000, num_experts=128, experts_per_token=8,
    moe_intermediate_size=1536,
)  # fmt: skip
CARD = Device(
    name="card", memory_gib=80, memory_bandwidth_gb_per_s=3000, bf16_tflops=900, fp8_tflops=1800,
    scaleup_gb_per_s=450, typical_per_node=8,
)  # fmt: skip


def row(
    model: Model = DENSE,
    device: Device = CARD,
    method: Method | None = None,
    count: int = 1,
    **load: float,
) -> Columns:
    isl, osl = load.pop("isl", 1000.0), load.pop("osl", 200.0)
    work = Workload(input_tokens=Lengths(mean=isl), output_tokens=Lengths(mean=osl), **load)  # type: ignore[arg-type]
    return columns([model], [work], [Hardware(device=device, count=count)], [method or Method(engine="vllm")])


def times(c: Columns) -> tuple[float, float]:
    """TPOT and TTFT of a row."""
    out = prior.parts(terms(c, prior.in_flight(c)), prior.engine_index(c))
    return float(out["tpot"][0]), float(out["ttft"][0])


@given(made.models(), made.workloads(), made.hardware(), made.methods())
@settings(max_examples=150, deadline=None)
def test_every_setting_has_a_finite_prior(
    model: Model, workload: Workload, hardware: Hardware, method: Method
) -> None:
    c = columns([model], [workload], [hardware], [method])
    t = terms(c, prior.in_flight(c))
    out = prior.parts(t, prior.engine_index(c))
    assert all(np.isfinite(v).all() for v in (*t.values(), *out.values()))
    assert (out["tpot"] > 0).all() and (out["ttft"] > 0).all()


@given(
    st.sampled_from([DENSE, SPARSE]),
    st.floats(200, 8000),
    st.floats(1.0, 3.0),
    st.integers(1, 512),
    st.floats(16, 16000),
)
@settings(max_examples=80, deadline=None)
def test_more_bandwidth_never_slows_decoding(
    model: Model, bandwidth: float, more: float, load: int, isl: float
) -> None:
    slow = CARD.model_copy(update={"memory_bandwidth_gb_per_s": bandwidth})
    fast = CARD.model_copy(update={"memory_bandwidth_gb_per_s": bandwidth * more})
    method = Method(engine="sglang", techniques=(Parallelism(tensor=4),))
    before = times(row(model, slow, method, 4, concurrency=load, isl=isl))
    after = times(row(model, fast, method, 4, concurrency=load, isl=isl))
    assert after[0] <= before[0] * (1 + 1e-9)


@given(
    st.sampled_from([DENSE, SPARSE]),
    st.integers(1, 256),
    st.floats(16, 16000),
    st.floats(1.0, 4.0),
    st.sampled_from(["vllm", "llama.cpp", "tensorrt-llm"]),
)
@settings(max_examples=80, deadline=None)
def test_longer_input_never_shortens_the_first_token(
    model: Model, load: int, isl: float, more: float, engine: str
) -> None:
    method = Method(engine=engine, techniques=(Parallelism(tensor=4),))
    short = times(row(model, CARD, method, 4, concurrency=load, isl=isl))
    long = times(row(model, CARD, method, 4, concurrency=load, isl=isl * more))
    assert long[1] >= short[1] * (1 - 1e-9)


def test_decoding_alone_is_bound_by_the_weights() -> None:
    """16 GB of weights at 3000 GB/s cannot be read faster than 5 ms."""
    assert 0.005 < times(row(concurrency=1))[0] < 0.012


def test_unknown_engine_lies_between_the_known() -> None:
    known = [times(row(method=Method(engine=name), concurrency=4))[0] for name in prior.ENGINES]
    assert (
        min(known) * 0.999
        <= times(row(method=Method(engine="llama.cpp"), concurrency=4))[0]
        <= max(known) * 1.001
    )


def test_a_request_rate_becomes_its_littles_law_load() -> None:
    c = row(request_rate_per_s=2.0)
    load = float(prior.in_flight(c)[0])
    tpot, ttft = times(row(concurrency=load))
    assert load == pytest.approx(2.0 * (ttft + 199 * tpot), rel=0.1)
    assert prior.in_flight(row(request_rate_per_s=8.0))[0] > load
    assert prior.in_flight(row(batch_size=7))[0] == 7
    assert prior.in_flight(row())[0] == 1


def test_replicas_divide_the_load_and_attention_data_parallelism_does_not() -> None:
    def layout(model: Model, **degrees: object) -> dict[str, float]:
        method = Method(engine="vllm", techniques=(Parallelism(**degrees),))  # type: ignore[arg-type]
        t = terms(row(model, CARD, method, 8, concurrency=64))
        return {name: float(t[name][0]) for name in ("w", "nd", "b", "dpa")}

    assert layout(DENSE, tensor=2, data=4) == {"w": 2, "nd": 4, "b": 16, "dpa": 0}
    assert layout(SPARSE, tensor=8, expert=8, attention_data=True) == {"w": 8, "nd": 1, "b": 64, "dpa": 1}
    assert layout(SPARSE, tensor=2, data=4, expert=8) == {"w": 8, "nd": 1, "b": 64, "dpa": 1}


def test_disaggregation_spares_decoding_the_prefills() -> None:
    pool = Pool(workers=1, tensor=4)
    split = Method(engine="vllm", techniques=(Disaggregation(prefill=pool, decode=pool),))
    whole = Method(engine="vllm", techniques=(Parallelism(tensor=4),))
    assert (
        times(row(SPARSE, method=split, count=8, concurrency=64))[0]
        < times(row(SPARSE, method=whole, count=4, concurrency=64))[0]
    )


def test_quantization_and_prefix_cache_save_what_they_should() -> None:
    eight = Method(engine="vllm", techniques=(WeightQuantization(format="fp8", bits=8, activation_bits=8),))
    assert times(row(method=eight, concurrency=1))[0] < times(row(concurrency=1))[0]
    cached = Method(engine="vllm", techniques=(PrefixCache(),))
    long = {"concurrency": 8.0, "isl": 8000.0, "prefix_share": 0.9}
    assert times(row(method=cached, **long))[1] < 0.6 * times(row(**long))[1]


def test_memory_need_counts_weights_and_cache() -> None:
    one, many = (terms(row(concurrency=load)) for load in (1, 64))
    cache = 32 * 2 * 8 * 128 * 2 * 1200 / 2**30
    assert many["need_gib"][0] - one["need_gib"][0] == pytest.approx(63 * cache)
    assert 15 < one["least_gib"][0] < 18
    assert many["least_gib"][0] == pytest.approx(one["least_gib"][0])
    static = Method(engine="vllm", techniques=(Batching(mode="static"),))
    assert terms(row(method=static, batch_size=64))["least_gib"][0] == pytest.approx(many["need_gib"][0])


LATENT = SPARSE.model_copy(update={"name": "latent", "kv_lora_rank": 512, "qk_rope_head_dim": 64})


def test_drafted_tokens_quicken_small_batches_more_than_large_ones() -> None:
    plain = Method(engine="vllm", techniques=(Parallelism(tensor=4),))
    draft = Method(engine="vllm", techniques=(Parallelism(tensor=4), Speculative(algorithm="mtp", tokens=3)))

    def gain(load: float) -> float:
        one, two = (times(row(method=m, count=4, concurrency=load))[0] for m in (plain, draft))
        return one / two

    assert 1.5 < gain(1) < 4
    assert gain(1) > gain(512)


def test_drafting_is_untold_only_where_a_model_could_and_nobody_says() -> None:
    def told(model: Model, *techniques: object) -> tuple[float, float]:
        t = terms(row(model, method=Method(engine="sglang", techniques=techniques), concurrency=4))  # type: ignore[arg-type]
        return float(t["draft"][0]), float(t["untold"][0])

    assert told(LATENT) == (0, 1)
    assert told(LATENT, Flags(values=("spec_decode=none",))) == (0, 0)
    assert told(LATENT, Speculative(algorithm="mtp", tokens=2)) == (2, 0)
    assert told(LATENT, Speculative(algorithm="mtp")) == (3, 0)
    assert told(SPARSE) == (0, 0)
    asked = whole(row(LATENT, method=Method(engine="sglang"), concurrency=4))
    assert float(terms(asked)["untold"][0]) == 0


def test_saturated_prefill_pools_set_the_pace() -> None:
    """Requests per second of a pool cannot exceed what its one prefill engine gets through."""
    pool, big = Pool(workers=1, tensor=2), Pool(workers=8, tensor=8)
    split = Method(engine="vllm", techniques=(Disaggregation(prefill=pool, decode=big),))
    c = row(SPARSE, method=split, count=66, concurrency=4096, isl=8000, osl=64)
    t = terms(c)
    out = prior.parts(t, prior.engine_index(c))
    rate = t["conc"] / (out["ttft"] + out["tpot"] * (t["osl"] - 1))
    busy = rate * out["prefill"]
    assert 0.3 < busy[0] < 2.5
