"""A fake predictor and short ways to ask, shared by the selection tests."""

from collections.abc import Mapping, Sequence

from metainf.domain import (
    Batching,
    Device,
    Estimate,
    Hardware,
    Lengths,
    Method,
    Model,
    Objective,
    Prediction,
    WeightQuantization,
    Workload,
)
from metainf.selection import Pair, Rules, select

MODEL = Model(name="m", params_b=8)
WORK = Workload(output_tokens=Lengths(mean=100), num_requests=3600)
FORMATS = ("bf16", "fp8", "awq", "int8")


def machine(name: str, count: int = 1) -> Hardware:
    return Hardware(device=Device(name=name), count=count)


def method(index: int) -> Method:
    weights = WeightQuantization(format=FORMATS[index % len(FORMATS)])
    return Method(engine="vllm", techniques=(weights, Batching(max_sequences=index + 1)))


def around(value: float, factor: float = 1.3) -> Estimate:
    return Estimate(value=value, low=value / factor, high=value * factor)


class FakePredictor:
    """A fake: answers from a table of (device name, batch limit)."""

    def __init__(self, answers: Mapping[tuple[str, int], Prediction]) -> None:
        self.answers = answers

    def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]:
        return [self.answers[hardware.device.name, limit(found)] for hardware, found in pairs]


def limit(found: Method) -> int:
    batching = found.get(Batching)
    assert batching is not None and batching.max_sequences is not None
    return batching.max_sequences


def prediction(
    speed: float = 100, ttft: float = 0.2, tpot: float = 0.02, p_ok: float = 0.95, factor: float = 1.3
) -> Prediction:
    metrics = {
        "output_tokens_per_s": around(speed, factor),
        "ttft_s": around(ttft, factor),
        "tpot_s": around(tpot),
    }
    return Prediction(p_ok=p_ok, metrics=metrics)


def ask(
    predictions: Mapping[tuple[str, int], Prediction],
    objective: Objective,
    prices: Mapping[str, float | None],
    rules: Rules | None = None,
    workload: Workload = WORK,
):  # type: ignore[no-untyped-def]
    def methods_for(hardware: Hardware) -> list[Method]:
        return [method(k - 1) for name, k in predictions if name == hardware.device.name]

    hardware = [(machine(name), price) for name, price in prices.items()]
    return select(
        MODEL, workload, objective, hardware, FakePredictor(predictions), methods_for, rules or Rules()
    )
