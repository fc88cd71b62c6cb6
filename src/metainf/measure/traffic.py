"""Workload -> Traffic: prompts, lengths and arrivals that have its moments; and the way back.

Three things make traffic: a workload (`of_workload`), a name of the study (`of_study`), a trace (`of_trace`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, Workload
from metainf.importers.traces import moments
from metainf.measure.lengths import draw_arrivals, draw_lengths
from metainf.measure.prose import about_tokens, beginning, own_text, prose
from metainf.measure.reference import REFERENCE
from metainf.measure.replay import Replay, of_trace
from metainf.measure.study_traffic import STUDY, of_study
from metainf.measure.words import ClosedLoop, OpenLoop, Pacing, Request, Traffic, Waves

__all__ = ["REFERENCE", "STUDY", "Replay", "of_study", "of_trace", "of_workload", "workload_of"]

BLOCK_WORDS = 16
CONTENT_SAMPLES = 8
CONTENT_CHARACTERS = 2000


def of_workload(
    workload: Workload, requests: int, pacing: Pacing | None, rng: np.random.Generator
) -> Traffic:
    """`requests` made-up prompts with the workload's lengths, sharing and load.

    Lengths are lognormal; a `prefix_share` becomes one beginning that all prompts share, long enough for that
    share of all input tokens to repeat an earlier prompt's beginning; without it prompts differ from their
    first words on. Without `pacing`: a request rate is an open loop (gaps by `interarrival_cv`), a
    concurrency a closed loop, a batch size waves. BadInput where lengths or load are not stated, where
    several loads are, and where so few requests cannot share so much.
    """
    inside, outside = workload.input_tokens, workload.output_tokens
    if inside is None or outside is None:
        missing = "input_tokens" if inside is None else "output_tokens"
        raise BadInput(
            f"workload {workload.name or 'without a name'}: expected {missing}, found none; state it"
        )
    if requests < 1:
        raise BadInput(f"requests: expected at least 1, found {requests}")
    chosen = _pacing(workload) if pacing is None else pacing
    inputs, outputs = draw_lengths(inside, requests, rng), draw_lengths(outside, requests, rng)
    times: Sequence[float | None] = [None] * requests
    if isinstance(chosen, OpenLoop):
        if workload.request_rate_per_s is None:
            raise BadInput("open loop: expected a workload with request_rate_per_s, found none")
        times = draw_arrivals(workload.request_rate_per_s, workload.interarrival_cv, requests, rng)
    prompts = _prompts(inputs, workload.prefix_share or 0.0, rng)
    return Traffic(
        name=workload.name or "workload",
        requests=tuple(map(Request, prompts, outputs, times)),
        pacing=chosen,
        reference=REFERENCE,
    )


def workload_of(traffic: Traffic) -> Workload:
    """The workload that this traffic is, by the counts that it was made with.

    Input lengths are words and marks, which are about tokens; they are the same whatever engine answers. The
    prefix share counts beginnings, in blocks of 16 words, that an earlier or a warming prompt had. Nothing
    tells the rate of an open loop of less than three requests. Private traffic has no samples of its content.
    """
    pacing, count = traffic.pacing, len(traffic.requests)
    if not count:
        raise BadInput(f"traffic {traffic.name}: expected at least one request, found none")
    times = [request.at_s for request in traffic.requests if request.at_s is not None]
    gaps = np.diff(np.sort(times)) if len(times) == count > 2 else np.empty(0)
    opened = isinstance(pacing, OpenLoop) and gaps.sum() > 0
    return Workload(
        name=traffic.name,
        input_tokens=moments([float(about_tokens(request.prompt)) for request in traffic.requests]),
        output_tokens=moments([float(request.output_tokens) for request in traffic.requests]),
        concurrency=pacing.concurrency if isinstance(pacing, ClosedLoop) else None,
        batch_size=pacing.size if isinstance(pacing, Waves) else None,
        request_rate_per_s=float(1 / gaps.mean()) if opened else None,
        interarrival_cv=float(gaps.std() / gaps.mean()) if opened else None,
        num_requests=count,
        prefix_share=round(_shared(traffic), 4),
        content=None if traffic.private else _samples([request.prompt for request in traffic.requests]),
    )


def _pacing(workload: Workload) -> Pacing:
    loads: list[Pacing] = []
    if workload.request_rate_per_s is not None:
        loads.append(OpenLoop())
    if workload.concurrency is not None:
        loads.append(ClosedLoop(max(round(workload.concurrency), 1)))
    if workload.batch_size is not None:
        loads.append(Waves(workload.batch_size))
    if len(loads) != 1:
        raise BadInput(
            "workload: expected one of request_rate_per_s, concurrency and batch_size, "
            f"found {len(loads) or 'none'} of them; say how requests are to be paced"
        )
    return loads[0]


def _prompts(inputs: list[int], share: float, rng: np.random.Generator) -> list[str]:
    """Prompts of these lengths; about `share` of all tokens repeat the beginning of an earlier prompt."""
    if share <= 0:
        return [own_text(rng, tokens, i) for i, tokens in enumerate(inputs)]
    length = _shared_length(np.asarray(inputs, dtype=np.int64), share)
    common = prose(rng, length)
    prompts = []
    for i, tokens in enumerate(inputs):
        held = min(length, tokens - 1)
        own = own_text(rng, tokens - held, i)
        prompts.append(f"{beginning(common, held)} {own}" if held else own)
    return prompts


def _shared_length(inputs: NDArray[np.int64], share: float) -> int:
    """Tokens of a common beginning such that `share` of all input tokens repeat it."""
    total, room = int(inputs.sum()), inputs - 1
    before = np.maximum.accumulate(room)[:-1]
    repeated = np.minimum(room[1:], before)
    most = float(repeated.sum()) / total
    if share > most:
        raise BadInput(
            f"prefix_share: expected at most {most:.3f} for {inputs.size} such requests, "
            f"found {share:g}; send more requests"
        )
    low, high = 0, int(inputs.max())
    while high - low > 1:
        middle = (low + high) // 2
        if float(np.minimum(repeated, middle).sum()) / total < share:
            low = middle
        else:
            high = middle
    return high


def _shared(traffic: Traffic) -> float:
    """Share of the words of timed prompts in leading blocks that a prompt before them had."""
    seen: set[int] = set()
    shared = total = 0
    for i, request in enumerate((*traffic.warming, *traffic.requests)):
        words, key, known = request.prompt.split(), 0, 0
        for end in range(BLOCK_WORDS, len(words) + 1, BLOCK_WORDS):
            key = hash((key, *words[end - BLOCK_WORDS : end]))
            if key in seen and known == end - BLOCK_WORDS:
                known = end
            seen.add(key)
        if i >= len(traffic.warming):
            shared, total = shared + known, total + len(words)
    return shared / total if total else 0.0


def _samples(prompts: list[str]) -> tuple[str, ...] | None:
    """Up to eight prompts, evenly spaced, each cut to 2,000 characters."""
    count = min(len(prompts), CONTENT_SAMPLES)
    kept = [prompts[i * len(prompts) // count][:CONTENT_CHARACTERS] for i in range(count)]
    return tuple(kept) or None
