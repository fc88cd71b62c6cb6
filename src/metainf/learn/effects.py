"""Effects of settings that the history hardly measured, laid on a forecast of the plain setting.

The learner is asked about the setting without the knob, and arithmetic does the rest:

* a cap on running sequences: requests beyond it queue. With N in flight and room for C the cap serves
  C / e2e(C) requests a second, so that a request waits N / rate - e2e(C) (Little's law). In an open loop
  below saturation the wait is that of a queue with C servers (Sakasegawa 1977).
* chunked prefill: a prompt cut into more pieces than at the usual budget takes one more step for each.
* speculative decoding that was not measured: see `speculation`.

Reused prefixes are part of the physics (`embed.physics`): they shorten the prefill and leave room.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import num, text
from metainf.embed.pairs import merged
from metainf.embed.physics import MOST_IN_FLIGHT, stated_load
from metainf.embed.remembering import of_columns, remembered
from metainf.learn.forecast import Forecast
from metainf.learn.speculation import Gain, gain, known, more_experts
from metainf.learn.views import Floats

USUAL_CHUNK = 8192.0
"""Tokens of one prefill step in the runs that the learners were calibrated on (the engines' default)."""
CHUNK_SCALE = 0.5
"""Log scale of the time that extra prefill steps add: an estimate of ours."""
_KNOBS = frozenset({"max_sequences", "max_step_tokens", "chunked_prefill", "chunk_tokens"})
"""Columns that the learners do not look at."""
LEAST_TOLD = 0.005
"""Change of the log time from which on an effect is worth a sentence."""
Ask = Callable[[Columns], Forecast]


def forecast(columns: Columns, ask: Ask, measured: frozenset[str] = frozenset()) -> Forecast:
    """`ask` about the plain settings, then the effects of cap, chunks and unmeasured speculation.

    measured: "engine algorithm" pairs whose speculation the learners know from runs of their own.
    """
    guessed, plain = unmeasured(columns, measured), without_guesses(columns, measured)
    cap, stated = capacity(columns), stated_load(columns)
    capped = stated > cap
    found = _asked(plain, _binding(cap, capped), ask)
    rate = num(columns, "request_rate_per_s", np.nan)
    open_loop = np.isfinite(cap) & ~np.isfinite(stated) & np.isfinite(rate) & (found.basis["conc"] > cap)
    if open_loop.any():
        closed = dict(plain)
        closed["concurrency"] = np.where(open_loop, cap, np.nan)
        closed["request_rate_per_s"] = np.where(open_loop, np.nan, rate)
        found = _merged(found, ask(closed), open_loop)
    found = _chunked(columns, found)
    if guessed.any():
        asked = {**columns, "speculative": _kept(text(columns, "speculative"), guessed, True)}
        found = _speculating(found, gain(asked, found.basis))
    if capped.any() or open_loop.any():
        found = _queued(found, np.where(capped, stated, np.nan), np.where(open_loop, rate, np.nan), cap)
    return _offered(found, np.where(np.isfinite(rate), rate, np.inf))


def _asked(plain: Columns, binding: Floats, ask: Ask) -> Forecast:
    """Forecasts of plain settings under the caps that bind (NaN: none does); equal ones are asked once."""
    fewer, place = merged(plain | {"binding": binding})
    cap = fewer.pop("binding")
    fewer["concurrency"] = np.where(np.isfinite(cap), cap, num(fewer, "concurrency", np.nan))
    found = ask(fewer)
    return found if place is None else found.take(place)


def _binding(cap: Floats, capped: NDArray[np.bool_]) -> Floats:
    """The cap where it keeps requests waiting, NaN elsewhere. Under one load those are the caps up to one."""
    most = float(np.max(cap, where=capped, initial=0.0))
    return _up_to(cap, most) if np.array_equal(cap <= most, capped) else np.where(capped, cap, np.nan)


@remembered
def _up_to(cap: Floats, most: float) -> Floats:
    return np.where(cap <= most, cap, np.nan)


def _offered(found: Forecast, rate: Floats) -> Forecast:
    """No more is served than is asked for."""
    median = dict(found.log_median)
    served = np.minimum(median["requests_per_s"], np.log(rate))
    median["output_tokens_per_s"] = median["output_tokens_per_s"] + served - median["requests_per_s"]
    median["requests_per_s"] = served
    return Forecast(median, found.log_scale, found.p_ok, found.basis)


def without_guesses(columns: Columns, measured: frozenset[str]) -> Columns:
    """The columns as the learners are asked: without knobs that they do not look at, and without
    speculation that they never saw."""
    plain = {name: values for name, values in columns.items() if name not in _KNOBS}
    if not (num(columns, "prefix_share", 0.0) > 0).any():
        plain.pop("prefix_cache", None)
    guessed = unmeasured(columns, measured)
    if guessed.any():
        plain["speculative"] = _kept(text(columns, "speculative"), guessed, False)
        if "speculative_tokens" in columns:
            plain["speculative_tokens"] = _kept(columns["speculative_tokens"], guessed, False)
    return plain


@remembered
def _kept(column: NDArray[Any], rows: NDArray[np.bool_], wanted: bool) -> NDArray[Any]:
    """The column in the rows that are wanted (or in the others), "" or NaN elsewhere."""
    return np.where(rows == wanted, column, "" if column.dtype.kind == "U" else np.nan)


def told(columns: Columns, ask: Ask, measured: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What the effects here do to the end-to-end time of the first row, in words, strongest first."""
    row = {name: values[:1] for name, values in columns.items()}
    whole = float(forecast(row, ask, measured).log_median["e2e_s"][0])
    none, unknown = np.array([""]), np.array([np.nan])
    blank: dict[str, Columns] = {
        "reuse of the shared prefix": {"prefix_share": np.array([0.0])},
        "size of the prefill chunks": {"chunk_tokens": unknown},
        "waiting behind the cap on running requests": {"max_sequences": unknown, "batching": none},
    }
    if unmeasured(row, measured).any():
        blank["speculative decoding (published acceptance, no run of its own)"] = {"speculative": none}
    found = []
    for phrase, without in blank.items():
        change = whole - float(forecast(row | without, ask, measured).log_median["e2e_s"][0])
        if abs(change) > LEAST_TOLD:
            found.append((change, f"{phrase}: {np.expm1(change):+.0%} of the time"))
    return tuple(words for _, words in sorted(found, key=lambda pair: -abs(pair[0])))


def unmeasured(columns: Columns, measured: frozenset[str]) -> NDArray[np.bool_]:
    """Rows whose speculation no run told about, but whose acceptance is published."""
    return _unmeasured(text(columns, "engine"), text(columns, "speculative"), measured)


@remembered
def _unmeasured(engines: NDArray[Any], names: NDArray[Any], measured: frozenset[str]) -> NDArray[np.bool_]:
    drafted = np.flatnonzero(names != "")
    found = np.zeros(len(names), dtype=np.bool_)
    pairs = zip(engines[drafted].tolist(), names[drafted].tolist(), strict=True)
    found[drafted] = [known(name) and f"{engine} {name}" not in measured for engine, name in pairs]
    return found


@of_columns("batching", "max_sequences", "disaggregated", "decode_workers", "data")
def capacity(columns: Columns) -> Floats:
    """Sequences that all replicas may run at once, NaN where no cap is stated; one for each replica where
    requests are not batched."""
    alone = text(columns, "batching") == "none"
    most = np.where(alone, 1.0, num(columns, "max_sequences", np.nan))
    split = num(columns, "disaggregated", 0.0) > 0
    replicas = np.where(split, num(columns, "decode_workers", 1.0), num(columns, "data", 1.0))
    return most * np.maximum(replicas, 1.0)


def _merged(first: Forecast, other: Forecast, rows: NDArray[np.bool_]) -> Forecast:
    """The first forecast with some rows of another."""
    parts = [
        {name: np.where(rows, theirs[name], values) for name, values in ours.items()}
        for ours, theirs in (
            (first.log_median, other.log_median),
            (first.log_scale, other.log_scale),
            (first.basis, other.basis),
        )
    ]
    return Forecast(parts[0], parts[1], np.where(rows, other.p_ok, first.p_ok), parts[2])


def _chunked(columns: Columns, found: Forecast) -> Forecast:
    """Longer time to first token where a prompt is cut into more pieces than usual."""
    off = num(columns, "chunked_prefill", 1.0) == 0
    budget = np.where(off, np.inf, num(columns, "chunk_tokens", USUAL_CHUNK))
    reused = np.where(num(columns, "prefix_cache", 0.0) > 0, num(columns, "prefix_share", 0.0), 0.0)
    fresh = np.maximum(found.basis["isl"] * (1 - reused), 1.0)
    more = np.ceil(fresh / budget) - np.ceil(fresh / USUAL_CHUNK)
    if not more.any():
        return found
    ttft = np.exp(found.log_median["ttft_s"])
    extra = np.maximum(more * found.basis["step"], -0.5 * ttft)
    return _later(found, extra, np.where(more != 0, CHUNK_SCALE, 0.0))


def _later(found: Forecast, extra_s: Floats, extra_scale: Floats) -> Forecast:
    """The forecast with a later first token; rates are those of a closed loop with the longer request."""
    median, scale = dict(found.log_median), dict(found.log_scale)
    first, rest = np.exp(median["ttft_s"]), np.exp(median["e2e_s"]) - np.exp(median["ttft_s"])
    later = first + extra_s
    share = np.abs(extra_s) / later
    scale["ttft_s"] = np.where(extra_s != 0, np.hypot(scale["ttft_s"], share * extra_scale), scale["ttft_s"])
    median["ttft_s"] = np.log(later)
    return _retimed(Forecast(median, scale, found.p_ok, found.basis), later + np.maximum(rest, 0.0))


def _retimed(found: Forecast, e2e_s: Floats) -> Forecast:
    """The forecast with another end-to-end time; in a closed loop the rates follow."""
    median = dict(found.log_median)
    change = np.log(e2e_s) - median["e2e_s"]
    bound = found.basis["conc"] / np.exp(median["e2e_s"])
    loaded = np.exp(median["requests_per_s"]) >= 0.999 * bound
    for name in ("requests_per_s", "output_tokens_per_s"):
        median[name] = median[name] - np.where(loaded, change, 0.0)
    median["e2e_s"] = np.log(e2e_s)
    return Forecast(median, found.log_scale, found.p_ok, found.basis)


def _speculating(found: Forecast, won: Gain) -> Forecast:
    """Faster (or slower) output where speculation is guessed; the terms become those of one token."""
    t = found.basis
    ratio = won.cost / won.tokens
    factor = (t["inter"] + t["step"] * ratio) / (t["inter"] + t["step"])
    median, scale = dict(found.log_median), dict(found.log_scale)
    first = np.exp(median["ttft_s"])
    rest = np.maximum(np.exp(median["e2e_s"]) - first, 0.0)
    median["tpot_s"] = median["tpot_s"] + np.log(factor)
    per_step = t["step"] * ratio / (t["inter"] + t["step"] * ratio)
    wider = won.scale * per_step
    late = rest * factor / (first + rest * factor)
    scale["tpot_s"] = np.hypot(scale["tpot_s"], wider)
    for name in ("e2e_s", "requests_per_s", "output_tokens_per_s"):
        scale[name] = np.hypot(scale[name], wider * late)
    per_token = {name: t[name] / won.tokens for name in ("t_dense", "t_kv")}
    per_token["t_moe"] = t["t_moe"] * more_experts(t, won.positions) / won.tokens
    per_token |= {name: t[name] * won.positions / won.tokens for name in ("t_flop", "t_attn")}
    changed = Forecast(median, scale, found.p_ok, t | per_token)
    later = first * (1 + t["full"] / t["ttft"] * (factor - 1))
    median["ttft_s"] = np.log(later)
    return _retimed(changed, later + rest * factor)


def _queued(found: Forecast, in_flight: Floats, rate: Floats, cap: Floats) -> Forecast:
    """Waiting before a capped engine; `in_flight` and `rate` are NaN where they do not apply."""
    median, scale = dict(found.log_median), dict(found.log_scale)
    e2e, first = np.exp(median["e2e_s"]), np.exp(median["ttft_s"])
    served = np.exp(median["requests_per_s"])
    closed = np.nan_to_num(in_flight / served - e2e, nan=0.0)
    busy = np.clip(np.nan_to_num(rate / served, nan=0.0), 0.0, 1.0)
    servers = np.maximum(np.nan_to_num(cap, nan=1.0), 1.0)
    power = np.sqrt(2 * (servers + 1)) - 1
    queue = e2e / servers * busy**power / np.maximum(1 - busy, 1e-9)
    most = MOST_IN_FLIGHT / served
    wait = np.maximum(np.where(np.isfinite(rate), np.minimum(queue, most), closed), 0.0)
    share = wait / (first + wait)
    scale["ttft_s"] = (1 - share) * scale["ttft_s"] + share * scale["e2e_s"]
    median["ttft_s"], median["e2e_s"] = np.log(first + wait), np.log(e2e + wait)
    slower = np.where(np.isfinite(rate), np.minimum(rate, served), served)
    median["requests_per_s"] = np.log(slower)
    median["output_tokens_per_s"] = np.log(slower * found.basis["osl"])
    return Forecast(median, scale, found.p_ok, found.basis)
