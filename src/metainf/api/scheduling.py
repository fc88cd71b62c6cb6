"""What the scheduler is told of kinds of nodes and methods: a few predictions, laid out as rates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metainf.api.choosing import Question
from metainf.api.predicting import predict
from metainf.domain import BadInput, Hardware, Lengths, Method, Model, Prediction, Workload
from metainf.engines.memory import requirement
from metainf.swarm.schedule.words import BLOCK_TOKENS, Floats, Rates

SHORT, LONG, OUT = 512.0, 2048.0, 256.0
FEW, MANY = 1.0, 32.0
"""The four points that are predicted of each pair: two lengths of prompt, two loads."""
CACHE_SHARE = 0.5
"""Of the room for caches, what may hold prefixes that nobody uses now."""
MOST_SEQUENCES = 256
Z90 = 1.6448536269514722


def rates(
    model: Model,
    hardware: Sequence[Hardware],
    methods: Sequence[tuple[str, Sequence[Method]]],
    tokens: float,
    predictor: Path | None = None,
) -> Rates:
    """Rates [hardware, method]. Each method is a name and its settings in order of hardware.

    `tokens` is what a request holds in the cache at the end, for how many fit. A pair of which nothing is
    predicted is NaN. Raises as `predict` does.
    """
    shape = (len(hardware), len(methods))
    arrays = {name: np.full(shape, np.nan) for name in ("prefill", "step", "each", "spread")}
    most, blocks = np.ones(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for column, (_, settings) in enumerate(methods):
        if len(settings) != len(hardware):
            raise BadInput(f"expected a setting for each of {len(hardware)} machines, found {len(settings)}")
        pairs = list(zip(hardware, settings, strict=True))
        told = {
            (tokens_in, load): _latencies(model, pairs, tokens_in, load, predictor)
            for tokens_in, load in ((SHORT, FEW), (LONG, FEW), (SHORT, MANY))
        }
        ttft, spread = told[LONG, FEW][0], told[SHORT, MANY][2]
        few, many = told[SHORT, FEW][1], told[SHORT, MANY][1]
        slope = np.maximum(ttft - told[SHORT, FEW][0], 0.05 * ttft) / (LONG - SHORT)
        each = np.maximum(many - few, 0.0) / (MANY - FEW)
        arrays["prefill"][:, column], arrays["step"][:, column] = slope, np.maximum(few - each, 0.2 * few)
        arrays["each"][:, column], arrays["spread"][:, column] = each, spread
        for row, (machine, method) in enumerate(pairs):
            room = _cache_tokens(model, machine, method)
            most[row, column] = max(1, min(MOST_SEQUENCES, int(room / max(tokens, 1.0))))
            blocks[row, column] = int(CACHE_SHARE * room / BLOCK_TOKENS)
    return Rates(
        methods=tuple(name for name, _ in methods),
        prefill_s_per_token=arrays["prefill"],
        step_s=arrays["step"],
        step_per_sequence_s=arrays["each"],
        most_sequences=most,
        cached_blocks=blocks,
        spread=arrays["spread"],
    )


def _latencies(
    model: Model,
    pairs: Sequence[tuple[Hardware, Method]],
    tokens_in: float,
    load: float,
    predictor: Path | None,
) -> tuple[Floats, Floats, Floats]:
    """Time to the first token (s), per token (s), scale of the latter's error; NaN where not predicted."""
    changes = {"input_tokens": {"mean": tokens_in}, "output_tokens": {"mean": OUT}, "concurrency": load}
    question = Question(
        model=model,
        hardware=tuple({machine.device.name: machine for machine, _ in pairs}.values()),
        changes=changes,
        predictor=predictor,
        offline=True,
    )
    found = np.full((3, len(pairs)), np.nan)
    for column, told in enumerate(predict(question, pairs)):
        if not isinstance(told, Prediction):
            continue
        ttft, tpot = told.metrics.get("ttft_s"), told.metrics.get("tpot_s")
        if ttft is None or tpot is None:
            continue
        spread = np.log(max(tpot.high, 1e-9) / max(tpot.low, 1e-9)) / (2 * Z90)
        found[:, column] = ttft.value, tpot.value, spread
    return found[0], found[1], found[2]


def _cache_tokens(model: Model, machine: Hardware, method: Method) -> float:
    """Tokens that the caches of a machine hold beside the weights; 0 where that is not known."""
    one = Workload(input_tokens=Lengths(mean=1.0), output_tokens=Lengths(mean=0.0))
    needs = requirement(model, method, machine, one)
    if needs is None or needs.kv_gib_per_sequence <= 0:
        return 0.0
    room = needs.available_gib - needs.weights_gib - needs.working_gib
    return max(0.0, room / needs.kv_gib_per_sequence)
