"""Questions about known pairs get the answers that the same pairs would get if they were new."""

import numpy as np
import pytest

from metainf import catalog
from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Disaggregation,
    Hardware,
    Lengths,
    Method,
    Model,
    Parallelism,
    Pool,
    PrefixCache,
    Speculative,
    WeightQuantization,
    Workload,
)
from metainf.learn import artifact
from metainf.learn.forecast import Forecast
from metainf.learn.predictor import TrainedPredictor

TECHNIQUES = (
    (),
    (Batching(max_sequences=8),),
    (Batching(max_sequences=64), ChunkedPrefill(tokens=512)),
    (PrefixCache(), WeightQuantization(format="fp8")),
    (Speculative(algorithm="eagle3", tokens=3), Batching(max_sequences=8)),
    (Speculative(algorithm="ngram"), Parallelism(tensor=2)),
    (Disaggregation(prefill=Pool(workers=1, tensor=2), decode=Pool(workers=1, tensor=2)),),
)
WORK: tuple[dict[str, float], ...] = (
    {"concurrency": 4.0},
    {"concurrency": 32.0},
    {"concurrency": 100.0, "prefix_share": 0.5},
    {"request_rate_per_s": 3.0},
    {"request_rate_per_s": 300.0},
    {"concurrency": 4.0},
)


def fleet() -> list[tuple[Hardware, Method]]:
    return [
        (Hardware(device=catalog.find_device(name), count=4), Method(engine=engine, techniques=some))
        for name in ("h100-sxm", "l4", "mi300x")
        for engine in ("vllm", "sglang", "llama.cpp")
        for some in TECHNIQUES
    ]


def equal(a: Forecast, b: Forecast, tolerance: float) -> None:
    for one, other in ((a.log_median, b.log_median), (a.log_scale, b.log_scale)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(a.p_ok, b.p_ok, rtol=tolerance)


@pytest.fixture(scope="module")
def predictor() -> TrainedPredictor:
    return TrainedPredictor(artifact.read())


@pytest.mark.parametrize("name", ["Llama-3.1-8B-Instruct", "DeepSeek-R1"])
def test_known_pairs_are_told_the_same_as_new_ones(predictor: TrainedPredictor, name: str) -> None:
    model: Model = catalog.find_model(name)
    known = fleet()
    lengths = {"input_tokens": Lengths(mean=3000), "output_tokens": Lengths(mean=200)}
    for load in WORK:
        work = Workload(**lengths, **load)
        found = predictor.forecast(model, work, known)
        equal(found, predictor.forecast(model, work, fleet()), 1e-12)
        for i in range(0, len(known), 5):
            equal(found.take([i]), predictor.forecast(model, work, known[i : i + 1]), 2e-6)
