"""What llama.cpp says that it did: its log at level 4, and its `/metrics` (tools/server/README.md)."""

import re
from collections.abc import Mapping

from metainf.engines.evidence import Evidence, Reading
from metainf.engines.log_words import first, our_name, whole
from metainf.engines.prometheus import gained, total

PREFIX = "llamacpp:"
_FACTS = {
    "version": r"llama\.cpp host: \w+ ([\w.]+)",
    "slots": r"n_slots = (\d+)",
    "chunk": r"n_ubatch +(?:=|:) *(\d+)",
    "context": r"llama_context: n_ctx +(?:=|:) *(\d+)",
    "weights": r"file type +(?:=|:) *([A-Za-z][\w ]*(?:- (?:Small|Medium|Large))?)",
    "flash": r"flash_attn +(?:=|:) *(\w+)",
    "flash_auto": r"Flash Attention (?:was auto, set to )?(enabled|disabled)",
    "keys": r"\bK \((\w+)\):",
    "values": r"\bV \((\w+)\):",
    "speculative": r"adding speculative implementation '([\w-]+)'",
}
_SLOT = re.compile(r"slot +(launch_slot_|operator\(\)|release): id +(\d+) \| task -?\d+ \| (.*)")
_PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
_EVENTS = {"launch_slot_": "processing task", "operator()": "new prompt", "release": "stop processing"}


def llama_cpp_evidence(reading: Reading, algorithms: Mapping[str, str]) -> Evidence:
    """Evidence from a log and two readings of the metrics; `algorithms` are the engine's words for ours.

    The first mention of a setting is the served model's; a draft model's come after it.
    """
    facts = {name: found for name, p in _FACTS.items() if (found := first(p, reading.log)) is not None}
    computed = gained(reading, PREFIX + "prompt_tokens")
    hits = gained(reading, PREFIX + "prompt_tokens_cached")
    chunk, weights = whole(facts.get("chunk")), _file_type(facts.get("weights"))
    kept = {facts[side] for side in ("keys", "values") if side in facts}
    kind = facts.get("speculative") or ("none" if "slots" in facts else None)
    continuous, peak = _together(reading.events)
    return Evidence(
        version=facts.get("version"),
        max_sequences=whole(facts.get("slots")),
        continuous=continuous,
        peak_running=peak,
        mean_running=_mean_running(reading),
        step_tokens=chunk,
        context_tokens=whole(facts.get("context")),
        chunked_prefill=None if chunk is None else True,
        prefix_cache=True if hits else None,
        prompt_tokens=None if computed is None else computed + (hits or 0),
        prefix_hit_tokens=hits,
        speculative=None if kind is None else our_name(kind, algorithms),
        drafted_tokens=gained(reading, PREFIX + "spec_decode_num_draft_tokens"),
        accepted_tokens=gained(reading, PREFIX + "spec_decode_num_accepted_tokens"),
        weight_format=weights,
        kv_format="/".join(sorted(kept)) or None,
        attention=_attention(facts),
        precision=_PRECISIONS.get(weights or ""),
    )


def _file_type(text: str | None) -> str | None:
    """`Q4_K - Medium` is Q4_K_M, `all F32` is F32."""
    if text is None:
        return None
    name, _, size = text.strip().partition(" - ")
    return f"{name.removeprefix('all ')}_{size[0]}" if size else name.removeprefix("all ").split(" ")[0]


def _attention(facts: Mapping[str, str]) -> str | None:
    """`flash` or `none`; what it chose where it was left to choose."""
    state = facts.get("flash")
    if state == "auto":
        state = facts.get("flash_auto")
    return {"enabled": "flash", "1": "flash", "disabled": "none", "0": "none"}.get(state or "")


def _mean_running(reading: Reading) -> float | None:
    """Slots busy in a step, on average over the steps between the readings."""
    steps, busy = PREFIX + "n_decode", PREFIX + "n_busy_slots_per_decode"
    counts = [total(text, steps) for text in (reading.before, reading.after)]
    means = [total(text, busy) for text in (reading.before, reading.after)]
    if None in counts or None in means:
        return None
    (first, last), (early, late) = counts, means
    taken = (last or 0) - (first or 0)
    return ((late or 0) * (last or 0) - (early or 0) * (first or 0)) / taken if taken > 0 else None


def _together(log: str) -> tuple[bool | None, float | None]:
    """(whether requests joined a running batch, most slots at work at once), from the slots' own lines.

    A prompt that begins after some slot was released while another is still at work has joined it. A
    request that was given a slot and began only after other slots were released has waited.
    """
    working: set[str] = set()
    waiting: dict[str, bool] = {}  # slot -> another one was released since
    joined = waited = drained = False
    peak = 0
    for what, slot, rest in _SLOT.findall(log):
        if not rest.startswith(_EVENTS[what]):
            continue
        if what == "launch_slot_":
            waiting[slot] = False
        elif what == "release":
            working.discard(slot)
            waiting = dict.fromkeys(waiting, True)
            drained = bool(working)
        else:
            joined = joined or (drained and bool(working))
            waited = waiting.pop(slot, False) or waited
            working.add(slot)
            peak = max(peak, len(working))
    return (True if joined else False if waited else None), float(peak) if peak else None
