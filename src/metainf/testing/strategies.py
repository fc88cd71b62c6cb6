"""Hypothesis strategies for the words of the domain."""

from hypothesis import strategies as st

from metainf.domain import (
    Batching,
    Device,
    Disaggregation,
    Failed,
    Flags,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Parallelism,
    Pool,
    Precision,
    PrefixCache,
    Provenance,
    Record,
    Setting,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
"""Names in any script, without NUL."""
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
counts = st.integers(min_value=1, max_value=2**40)
dates = st.dates().map(lambda day: day.isoformat())


def models() -> st.SearchStrategy[Model]:
    """Models with a few architecture facts."""
    return st.builds(
        Model,
        name=names,
        modality=st.sampled_from(["text", "multimodal", "image", "video", "audio"]),
        family=st.none() | names,
        params_b=st.none() | positive,
        num_layers=st.none() | counts,
        tie_embeddings=st.none() | st.booleans(),
    )


def lengths() -> st.SearchStrategy[Lengths]:
    """Length distributions, moments of either sign included."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return st.builds(
        Lengths, mean=st.just(0.0) | positive, skewness=st.none() | finite, p99=st.none() | positive
    )


def workloads() -> st.SearchStrategy[Workload]:
    """Text and image workloads with at most one kind of load."""
    text = st.builds(
        Workload,
        name=st.none() | names,
        input_tokens=st.none() | lengths(),
        output_tokens=st.none() | lengths(),
        concurrency=st.none() | positive,
        prefix_share=st.none() | st.floats(min_value=0, max_value=1),
        content=st.none() | st.lists(names, max_size=8).map(tuple),
    )
    image = st.builds(Workload, width_px=counts, height_px=counts, steps=counts, batch_size=counts)
    return text | image


def hardware() -> st.SearchStrategy[Hardware]:
    """One device kind, counted or not."""
    device = st.builds(
        Device, name=names, memory_gib=st.none() | positive, kind=st.sampled_from([None, "gpu", "cpu"])
    )
    return st.builds(Hardware, device=device, count=st.none() | counts, platform=st.none() | names)


def techniques() -> st.SearchStrategy[tuple[Technique, ...]]:
    """At most one setting of each technique, in any order."""
    each: list[st.SearchStrategy[Technique]] = [
        st.builds(Batching, mode=st.sampled_from(["none", "static", "continuous"]), max_sequences=counts),
        st.builds(PrefixCache, enabled=st.booleans()),
        st.builds(Speculative, algorithm=names, tokens=st.none() | counts),
        st.builds(WeightQuantization, format=names, bits=st.none() | st.floats(min_value=1, max_value=32)),
        st.builds(Precision, dtype=names),
        st.builds(Parallelism, tensor=st.none() | counts, attention_data=st.none() | st.booleans()),
        st.builds(Disaggregation, prefill=st.builds(Pool, workers=st.none() | counts)),
        st.builds(Flags, values=st.lists(names, min_size=1, max_size=3).map(tuple)),
    ]
    return st.lists(st.one_of(each), max_size=4, unique_by=lambda one: one.kind).map(tuple)


def methods() -> st.SearchStrategy[Method]:
    """An engine with techniques."""
    return st.builds(Method, engine=names, engine_version=st.none() | names, techniques=techniques())


def outcomes() -> st.SearchStrategy[Measured | Failed]:
    """Measurements and failures."""
    metrics = st.builds(
        Metrics,
        output_tokens_per_s=st.none() | positive,
        ttft_s=st.none() | positive,
        tpot_p99_s=st.none() | positive,
        quality=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        quality_metric=st.none() | names,
    )
    failed = st.builds(
        Failed,
        reason=st.sampled_from(["out_of_memory", "unsupported", "crashed", "timed_out", "unknown"]),
        detail=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    )
    return st.builds(Measured, metrics=metrics, derived=st.none() | st.tuples(names)) | failed


def provenances() -> st.SearchStrategy[Provenance]:
    """Origins, dated or not."""
    return st.builds(
        Provenance,
        source=names,
        campaign=st.none() | names,
        location=st.none() | names,
        date=st.none() | dates,
        trial=st.integers(min_value=0, max_value=3),
    )


def records() -> st.SearchStrategy[Record]:
    """Whole records."""
    setting = st.builds(Setting, model=models(), workload=workloads(), hardware=hardware())
    return st.builds(Record, setting=setting, method=methods(), outcome=outcomes(), provenance=provenances())
