"""The words of the OpenVINO host's command line."""

import argparse
from dataclasses import dataclass

from metainf.hosts.words import Parser, positive, serving_words

KV_FORMATS = ("u8", "u4", "bf16", "f16", "f32")
PRECISIONS = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class Words:
    """What the command line asked. Sizes in GiB, lengths in tokens; None is the library's own default."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "CPU"
    served_model_name: str | None = None
    max_num_seqs: int | None = None
    static_batches: bool = False
    max_num_batched_tokens: int | None = None
    dynamic_split_fuse: bool = True
    enable_prefix_caching: bool = False
    cache_size: int = 1
    max_model_len: int | None = None
    prompt_lookup: bool = False
    max_ngram_size: int = 3
    draft_model: str | None = None
    num_assistant_tokens: int = 5
    kv_cache_precision: str | None = None
    inference_precision: str | None = None
    threads: int | None = None


def parser() -> Parser:
    """The parser of the command line; flags carry the names of the library's own settings."""
    made = Parser(prog="metainf.hosts.openvino", allow_abbrev=False, description=__doc__)
    add, switch = made.add_argument, argparse.BooleanOptionalAction
    serving_words(made)
    add("--device", default="CPU", help="CPU, GPU, GPU.0 ...")
    add("--max-num-seqs", type=positive, help="sequences in one step")
    add("--static-batches", action="store_true", help="nothing joins a batch until all of it is done")
    add("--max-num-batched-tokens", type=positive, help="tokens in one step")
    add("--dynamic-split-fuse", action=switch, default=True, help="prefill in chunks beside generation")
    add("--enable-prefix-caching", action=switch, default=False)
    add("--cache-size", type=positive, default=1, help="GiB of key-value cache")
    add("--max-model-len", type=positive, help="longest request in tokens")
    add("--prompt-lookup", action=switch, default=False, help="draft from the text so far")
    add("--max-ngram-size", type=positive, default=3)
    add("--draft-model", help="a draft model: GGUF file or folder")
    add("--num-assistant-tokens", type=positive, default=5, help="drafted tokens per step")
    add("--kv-cache-precision", choices=KV_FORMATS)
    add("--inference-precision", choices=PRECISIONS)
    add("--threads", type=positive)
    return made


def read_words(argv: list[str] | None) -> Words:
    """The words of a command line; exits with 2 and a reason where one cannot be understood."""
    made = parser()
    words = Words(**vars(made.parse_args(argv)))
    if words.prompt_lookup and words.draft_model is not None:
        made.error("--prompt-lookup and --draft-model exclude each other: give one")
    return words
