"""Sizing: enough replicas, no more, and tails that behave like a queue's."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import (
    Batching,
    Device,
    Estimate,
    Hardware,
    Lengths,
    Method,
    Model,
    NoFeasible,
    Objective,
    Prediction,
    Workload,
)
from metainf.selection import Pair, Sized, Target, size
from metainf.selection.sizing import queue_wait_s

MODEL = Model(name="m")
WORK = Workload(output_tokens=Lengths(mean=100), concurrency=16)
METHOD = Method(engine="vllm", techniques=(Batching(max_sequences=16),))
SMALL, LARGE = (Hardware(device=Device(name=name), count=1) for name in ("small", "large"))


class FakePredictor:
    """A fake: requests per second by device; TTFT 0.2 s with a 90 % interval up to 0.4 s."""

    def __init__(self, p_ok: float = 1.0, **rates: float) -> None:
        self.p_ok, self.rates = p_ok, rates

    def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]:
        return [self._one(self.rates[hardware.device.name]) for hardware, _ in pairs]

    def _one(self, rate: float) -> Prediction:
        metrics = {
            "requests_per_s": Estimate(value=rate, low=rate / 1.2, high=rate * 1.2),
            "ttft_s": Estimate(value=0.2, low=0.1, high=0.4),
        }
        return Prediction(p_ok=self.p_ok, metrics=metrics)


def sized(target: Target, objective: Objective | None = None, **rates: float) -> tuple[Sized, ...]:
    hardware = [(SMALL, 1.0), (LARGE, 3.0)]
    predictor = FakePredictor(**rates)
    return size(MODEL, WORK, objective or Objective(), hardware, predictor, lambda _: [METHOD], target)


def test_cheapest_mix_of_type_and_replicas() -> None:
    best = sized(Target(request_rate_per_s=17), small=5.0, large=30.0)[0]
    assert (best.hardware.device.name, best.replicas, best.usd_per_hour) == ("large", 1, 3.0)
    best = sized(Target(request_rate_per_s=4), small=5.0, large=30.0)[0]
    assert (best.hardware.device.name, best.replicas) == ("small", 1)


def test_utilisation_stays_below_its_bound() -> None:
    for found in sized(Target(request_rate_per_s=100, max_utilisation=0.7), small=5.0, large=30.0):
        assert found.utilisation <= 0.7
        assert found.capacity_requests_per_s * 0.7 >= 100


def test_a_tail_bound_needs_more_than_a_mean_bound() -> None:
    objective = Objective(max_ttft_s=0.6)
    mean = sized(Target(request_rate_per_s=50), objective, small=5.0, large=30.0)[0]
    tail = sized(Target(request_rate_per_s=50, percentile="p99"), objective, small=5.0, large=30.0)[0]
    assert mean.usd_per_hour is not None and tail.usd_per_hour is not None
    assert tail.usd_per_hour >= mean.usd_per_hour
    assert mean.ttft_s is not None and tail.ttft_s is not None
    assert mean.ttft_s < tail.ttft_s <= 0.6


def test_an_impossible_tail_is_said() -> None:
    with pytest.raises(NoFeasible, match="2 for latency"):
        sized(
            Target(request_rate_per_s=1, percentile="p99"), Objective(max_ttft_s=0.3), small=5.0, large=30.0
        )


def test_price_bounds_the_whole_deployment() -> None:
    with pytest.raises(NoFeasible, match="price or replicas"):
        sized(Target(request_rate_per_s=100), Objective(max_usd_per_hour=4), small=5.0, large=30.0)


def test_unlikely_candidates_are_not_sized() -> None:
    with pytest.raises(NoFeasible, match="unlikely to run"):
        size(
            MODEL,
            WORK,
            Objective(),
            [(SMALL, None)],
            FakePredictor(p_ok=0.1, small=5.0),
            lambda _: [METHOD],
            Target(request_rate_per_s=1),
        )


def test_confidence_lowers_the_capacity_counted_on() -> None:
    sure = sized(Target(request_rate_per_s=4), Objective(confidence=0.95), small=5.0, large=30.0)
    small = next(found for found in sure if found.hardware == SMALL)
    assert small.capacity_requests_per_s / small.replicas == pytest.approx(5 / 1.2)


def test_one_slot_is_the_textbook_queue() -> None:
    assert queue_wait_s(0.5, 1.0, 1, None) == pytest.approx(1.0)
    assert queue_wait_s(0.5, 1.0, 1, 0.9) == pytest.approx(math.log(0.5 / 0.1) / 0.5)
    assert queue_wait_s(0.5, 1.0, 1, 0.4) == 0
    assert queue_wait_s(1.0, 1.0, 4, None) == math.inf


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 200), st.floats(1.05, 3))
def test_more_traffic_never_costs_less(rate: float, factor: float) -> None:
    try:
        more = sized(Target(request_rate_per_s=rate * factor), small=5.0, large=30.0)[0].usd_per_hour
    except NoFeasible:
        return
    less = sized(Target(request_rate_per_s=rate), small=5.0, large=30.0)[0].usd_per_hour
    assert less is not None and more is not None
    assert less <= more
