"""How names compare: case, punctuation and organisation do not matter, digits and letters do.

`key("meta-llama/Llama2-7B")` and `key("llama 2 7b")` are both `llama-2-7-b`. A *stem* is a key without
the words that name a tuning or a number format, so that every variant of one checkpoint shares it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)*")
FILE_ENDING = re.compile(r"\.(?:gguf|safetensors|bin|json)$")
SPLIT_PART = re.compile(r"-\d{5}-of-\d{5}$")

TUNING = (
    r"chat|instruct|inst|it|hf|base|thinking|text|sft|dpo|preview|reasoning(?:-plus)?|terminus|diffusers|"
    r"datacenter|(?:25|24|23)\d{2}|0528|0324|1m|128k|4k|8k"
)
FORMAT = (
    r"fp8(?:-(?:static(?:-pertensor)?|dynamic|block|e4m3))?|fp16|fp32|bf16|f16|f32|nvfp4|mxfp4|fp4|int8|int4|awq|"
    r"gptq(?:-int[48])?|gguf|bnb|bnb-4bit|exl2|4bit|8bit|w4a16|w8a8|w8a16|w4a8|quantized(?:\.w\d+a\d+)?|"
    r"(?:ud-)?(?:i1-)?i?q\d(?:_[0-9a-z]+)*|g128|marlin"
)
TUNING_END = re.compile(rf"[-_ .](?:{TUNING})$")
FORMAT_END = re.compile(rf"[-_ .](?P<format>{FORMAT})$")
MAKERS = frozenset(
    {
        "meta",
        "nvidia",
        "amd",
        "intel",
        "r",
        "tm",
        "geforce",
        "radeon",
        "tesla",
        "instinct",
        "graphics",
        "card",
    }
    | {
        "gpu",
        "accelerator",
        "generation",
        "google",
        "apple",
        "aws",
        "huawei",
        "quadro",
        "edition",
        "corporation",
    }
)
MEMORY = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?(?:gb|gib|g)(?![\w.])|(?<=[\d\w]-)(\d+)gb", re.IGNORECASE)
MEMORY_KIND = re.compile(r"\b(?:hbm|gddr|lpddr)\d?\w*\b", re.IGNORECASE)


_FILES: ContextVar[bool] = ContextVar("metainf_files", default=True)


def may_be_file() -> bool:
    """Whether a name may also be the path of a file; it may not inside `names_only`."""
    return _FILES.get()


@contextmanager
def names_only() -> Iterator[None]:
    """Inside, a name is a name: for questions and result files that come from another machine."""
    before = _FILES.set(False)
    try:
        yield
    finally:
        _FILES.reset(before)


def bare(name: str) -> str:
    """Lower-case last path component, without a model file's ending."""
    last = name.strip().rstrip("/").rsplit("/", 1)[-1].lower()
    return SPLIT_PART.sub("", FILE_ENDING.sub("", last))


@lru_cache(maxsize=8192)
def key(name: str) -> str:
    """Comparison key of a model name."""
    tokens = TOKEN.findall(bare(name))
    return "-".join(tokens[1:] if len(tokens) > 2 and tokens[0] == "meta" else tokens)


@lru_cache(maxsize=8192)
def split_format(name: str) -> tuple[str, str | None]:
    """Name without its number format, and that format: `R1-NVFP4` is (`r1`, `nvfp4`)."""
    text, found = bare(name), None
    while match := FORMAT_END.search(text):
        text, found = text[: match.start()], match["format"] if found in (None, "gguf") else found
    return text, found


@lru_cache(maxsize=8192)
def stem(name: str) -> str:
    """Readable name without tuning and format words: `Llama-3.1-8B-Instruct-FP8` is `llama-3.1-8b`."""
    text = bare(name)
    while True:
        cut = TUNING_END.sub("", split_format(text)[0])
        if cut == text:
            break
        text = cut
    return re.sub(r"[ _]+", "-", text.removeprefix("meta-"))


@lru_cache(maxsize=8192)
def device_key(name: str) -> str:
    """Comparison key of a device name, without makers' words and memory size."""
    text = MEMORY_KIND.sub(" ", MEMORY.sub(" ", name.lower().replace("(r)", " ").replace("(tm)", " ")))
    return "-".join(token for token in TOKEN.findall(text) if token not in MAKERS)


def memory_in(name: str) -> float | None:
    """Memory in GB that a device name states; None where it states none, or an impossible 0."""
    found = [float(a or b) for a, b in MEMORY.findall(name.lower())]
    return found[-1] if found and found[-1] > 0 else None
