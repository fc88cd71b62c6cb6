"""What vLLM says that it did: the configuration in its start-up log, and its `/metrics`.

Formats as of vLLM 0.11 to 0.32: docs.vllm.ai usage/metrics and design/metrics.
"""

import re

from metainf.engines.evidence import UNQUANTIZED, Evidence, Reading
from metainf.engines.log_words import first, value, whole
from metainf.engines.prometheus import gained, label

_CONFIG = r"Initializing an? (?:V\d )?LLM engine \(v([^)]+)\) with config: (.*)"
_METHOD = r"speculative_config=\w*\(?\{?'?method'?[=:] ?'([\w-]+)'"


def vllm_evidence(reading: Reading) -> Evidence:
    """Evidence from a log and two readings of the metrics.

    A limit left at its default is not in the log: `max_sequences` is known only where it was given. It says
    how many run only now and then, so `peak_running` is a lower bound, and so is `mean_running`: each step
    writes one token, and those accepted of a draft, for each request that is past its prompt.
    """
    log = reading.log
    config = first(_CONFIG, log, 2) or ""
    options = first(r"non-default args: (.*)", log) or ""
    cached = label(reading.after, "vllm:cache_config_info", "enable_prefix_caching")
    chunked = value(config, "enable_chunked_prefill") or value(config, "chunked_prefill_enabled")
    backend = first(r"Using (\w+(?: Attention)?) (?:attention )?backend", log)
    running = [float(count) for count in re.findall(r"\bRunning: (\d+) reqs", reading.events)]
    step = first(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)", log)
    weights = value(config, "quantization")
    return Evidence(
        version=first(_CONFIG, log),
        max_sequences=whole(value(options, "max_num_seqs")),
        peak_running=max(running) if any(running) else None,
        mean_running=_mean_running(reading),
        step_tokens=whole(step or value(options, "max_num_batched_tokens")),
        chunked_prefill=_truth(chunked),
        prefix_cache=_truth(value(config, "enable_prefix_caching") or cached),
        prompt_tokens=gained(reading, "vllm:prompt_tokens"),
        prefix_hit_tokens=gained(reading, "vllm:prefix_cache_hits"),
        speculative=_speculative(config),
        draft_steps=gained(reading, "vllm:spec_decode_num_drafts"),
        drafted_tokens=gained(reading, "vllm:spec_decode_num_draft_tokens"),
        accepted_tokens=gained(reading, "vllm:spec_decode_num_accepted_tokens"),
        weight_format=UNQUANTIZED if weights == "None" else weights,
        kv_format=value(config, "kv_cache_dtype"),
        attention=backend and backend.replace("Flash Attention", "FLASH_ATTN"),
        precision=(value(config, "dtype") or "").removeprefix("torch.") or None,
        tensor=whole(value(config, "tensor_parallel_size")),
        pipeline=whole(value(config, "pipeline_parallel_size")),
    )


def _mean_running(reading: Reading) -> float | None:
    steps, written = (
        gained(reading, "vllm:iteration_tokens_total_count"),
        gained(reading, "vllm:generation_tokens"),
    )
    if not steps or written is None:
        return None
    return (written - (gained(reading, "vllm:spec_decode_num_accepted_tokens") or 0.0)) / steps


def _truth(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").lower())


def _speculative(config: str) -> str | None:
    """Its word for the algorithm; `none` where it says that there is none."""
    if value(config, "speculative_config") == "None":
        return "none"
    found = first(_METHOD, config)
    return "mtp" if found is not None and found.endswith("mtp") else found
