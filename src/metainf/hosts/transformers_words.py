"""The words of the transformers host's command line."""

import argparse
from dataclasses import dataclass

from metainf.hosts.words import Parser, positive, serving_words


@dataclass(frozen=True)
class Words:
    """What the command line asked; None is the library's own default."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None
    batching: str = "continuous"
    max_batch_size: int = 8
    max_batch_tokens: int | None = None
    block_sharing: bool = False
    dtype: str = "bfloat16"
    attn_implementation: str = "sdpa"
    prompt_lookup_num_tokens: int | None = None
    assistant_model: str | None = None
    num_assistant_tokens: int | None = None
    int8_dynamic: bool = False
    device: str = "cpu"
    threads: int | None = None


def read_words(argv: list[str] | None) -> Words:
    """The words of a command line; exits with 2 and a reason where they cannot be understood."""
    made = Parser(prog="metainf.hosts.transformers", allow_abbrev=False, description=__doc__)
    serving_words(made)
    add, switch = made.add_argument, argparse.BooleanOptionalAction
    add("--batching", choices=("continuous", "static"), default="continuous")
    add("--max-batch-size", type=positive, default=8, help="requests in one step")
    add("--max-batch-tokens", type=positive, help="tokens in one step of continuous batching")
    add("--block-sharing", action=switch, default=False, help="share cache blocks of equal prefixes")
    add("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    add("--attn-implementation", choices=("sdpa", "eager"), default="sdpa")
    add("--prompt-lookup-num-tokens", type=positive, help="draft from the text so far")
    add("--assistant-model", help="a draft model: GGUF file or folder")
    add("--num-assistant-tokens", type=positive, help="drafted tokens of the assistant per step")
    add("--int8-dynamic", action="store_true", help="linear layers in int8, made while loading")
    add("--device", default="cpu")
    add("--threads", type=positive)
    words = Words(**vars(made.parse_args(argv)))
    speculative = words.prompt_lookup_num_tokens or words.assistant_model
    if words.prompt_lookup_num_tokens and words.assistant_model:
        made.error("--prompt-lookup-num-tokens and --assistant-model exclude each other: give one")
    if speculative and (words.batching, words.max_batch_size) != ("static", 1):
        made.error("transformers drafts for one request at a time: add --batching static --max-batch-size 1")
    if words.block_sharing and words.batching == "static":
        made.error("--block-sharing needs --batching continuous")
    return words
