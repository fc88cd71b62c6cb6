"""What SGLang says that it did: `server_args` and the batches in its log, and its `/metrics`.

Formats as of SGLang 0.5: docs.sglang.io references/production_metrics.
"""

import re
from collections.abc import Mapping

from metainf.engines.evidence import Evidence, Reading
from metainf.engines.log_words import first, given, our_name, value, whole
from metainf.engines.prometheus import gained


def sglang_evidence(reading: Reading, algorithms: Mapping[str, str]) -> Evidence:
    """Evidence from a log and two readings of the metrics; `algorithms` are the engine's words for ours.

    It counts no drafted tokens, only their mean accepted length, so both token counts stay unknown.
    """
    log = reading.log
    options = first(r"server_args=ServerArgs\((.*)", log) or ""
    limits = first(r"(max_total_num_tokens=\d+.*)", log) or ""
    loaded = first(r"Load weight end\.(.*)", log) or ""
    chunk = given(limits, "chunked_prefill_size") or given(options, "chunked_prefill_size")
    sequences = given(limits, "max_running_requests") or given(options, "max_running_requests")
    backend = given(options, "attention_backend") or first(
        r"Use (\w+) (?:attention )?backend by default", log
    )
    radix_off = given(options, "disable_radix_cache")
    running = [float(count) for count in re.findall(r"#running-req: (\d+)", reading.events)]
    dtype = given(loaded, "dtype") or given(options, "dtype")
    word = value(options, "speculative_algorithm")
    return Evidence(
        max_sequences=whole(sequences),
        peak_running=max(running) if any(running) else None,
        step_tokens=whole(chunk),
        chunked_prefill=None if chunk is None else whole(chunk) is not None,
        prefix_cache=None if radix_off is None else radix_off == "False",
        prompt_tokens=gained(reading, "sglang:prompt_tokens"),
        prefix_hit_tokens=gained(reading, "sglang:cached_tokens", without=("cache_source", "total")),
        speculative=None if word is None else our_name(word, algorithms),
        weight_format=given(loaded, "quant") or given(options, "quantization"),
        kv_format=given(options, "kv_cache_dtype"),
        attention=backend,
        precision=None if dtype in (None, "auto") else str(dtype).removeprefix("torch."),
        tensor=whole(given(options, "tp_size")),
        pipeline=whole(given(options, "pp_size")),
    )
