"""Loading a model with transformers, and what is set and counted around it."""

from pathlib import Path
from typing import Any

from metainf.hosts.counters import Counters
from metainf.hosts.transformers_words import Words

PAGE_TOKENS, PAGES = 32, 512
"""The paged cache of continuous batching: tokens of a page, and pages."""


def loaded(path: str, words: Words) -> tuple[Any, Any]:
    """A network and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    more: dict[str, Any] = {}
    folder = path
    if path.endswith(".gguf"):
        from transformers import GgufConfig

        folder, name = str(Path(path).parent), Path(path).name
        more = {"gguf_file": name}
    tokenizer = AutoTokenizer.from_pretrained(folder, **more)
    if more:
        more["quantization_config"] = GgufConfig(dequantize=True)
    network = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, words.dtype), attn_implementation=words.attn_implementation, **more
    )
    network = network.eval().to(words.device)
    if words.int8_dynamic:
        network = torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear}, dtype=torch.qint8)
    return network, tokenizer


def assistant(words: Words) -> Any:
    """The draft model; it offers as many tokens in each step as was asked, where it was."""
    network = loaded(str(words.assistant_model), words)[0]
    if words.num_assistant_tokens is not None:
        network.generation_config.num_assistant_tokens = words.num_assistant_tokens
        network.generation_config.num_assistant_tokens_schedule = "constant"
    return network


def attention_of(network: Any) -> str:
    """The library's word for the kernels in use; those of paged caches are named after the plain ones."""
    return str(network.config._attn_implementation).removeprefix("paged|")


def continuous(words: Words, library: Any) -> Any:
    made: dict[str, Any] = {"page_size": PAGE_TOKENS, "num_blocks": PAGES}
    if words.max_batch_tokens is not None:
        made["max_batch_tokens"] = words.max_batch_tokens
    return library.ContinuousBatchingConfig(
        max_requests_per_batch=words.max_batch_size,
        allow_block_sharing=words.block_sharing,
        auto_switch_to_flash=False,
        **made,
    )


def count_drafts(network: Any, counters: Counters) -> None:
    """Count the tokens that the library's own candidate generators offer."""
    counters.sums["drafted_tokens"] += 0
    make = getattr(network, "_get_candidate_generator", None)

    def counting(*args: Any, **named: Any) -> Any:
        made = make(*args, **named)  # type: ignore[misc]
        offer = made.get_candidates

        def offered(ids: Any, *more: Any, **others: Any) -> Any:
            found = offer(ids, *more, **others)
            counters.sums["drafted_tokens"] += found[0].shape[1] - ids.shape[1]
            return found

        made.get_candidates = offered
        return made

    if make is not None:
        network._get_candidate_generator = counting


def count_hits(counters: Counters) -> None:
    """Count the prompt tokens that the library's paged cache finds in it, 0 where it shares no blocks."""
    from transformers.generation.continuous_batching import cache

    counters.sums["prefix_hit_tokens"] += 0
    search = cache.PagedAttentionCache.search_prefix_match

    def searching(self: Any, *args: Any, **named: Any) -> Any:
        found = search(self, *args, **named)
        counters.sums["prefix_hit_tokens"] += found
        return found

    cache.PagedAttentionCache.search_prefix_match = searching


def facts(words: Words, network: Any, version: str) -> dict[str, str]:
    return {
        "version": version,
        "batching": words.batching,
        "max_batch_size": str(words.max_batch_size),
        "max_batch_tokens": str(words.max_batch_tokens or ""),
        "block_sharing": str(words.block_sharing).lower(),
        "dtype": str(getattr(network, "dtype", words.dtype)).removeprefix("torch."),
        "attention": attention_of(network),
        "speculative": "ngram"
        if words.prompt_lookup_num_tokens
        else "draft"
        if words.assistant_model
        else "none",
        "weights": "int8" if words.int8_dynamic else "",
    }
