"""The words of the diffusers host's command line."""

from dataclasses import dataclass

from metainf.engines.diffusers_script import OFFLOADS, QUANTIZERS, SCHEDULES
from metainf.hosts.words import Parser, positive, serving_words

DTYPES = ("fp32", "tf32", "fp16", "bf16")
QUANTIZATIONS = (*QUANTIZERS, "qint8")


@dataclass(frozen=True)
class Words:
    """What the command line asked; None is the library's own default."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None
    device: str = "cpu"
    dtype: str = "fp32"
    attention: str | None = None
    fuse_qkv: bool = False
    quantize: str | None = None
    compile: bool = False
    memory_format: str | None = None
    denoiser: str | None = None
    autoencoder: str | None = None
    schedule: str | None = None
    steps: int | None = None
    guidance: bool = True
    offload: str | None = None
    threads: int | None = None


def read_words(argv: list[str] | None) -> Words:
    """The words of a command line; exits with 2 and a reason where they cannot be understood."""
    made = Parser(prog="metainf.hosts.diffusers", allow_abbrev=False, description=__doc__)
    serving_words(made)
    add = made.add_argument
    add("--device", default="cpu", help="cpu, cuda, mps or xpu")
    add("--dtype", choices=DTYPES, default="fp32", help="number format of the arithmetic")
    add("--attention", help="plain (no fused kernel), sdpa, or a backend of diffusers")
    add("--fuse-qkv", action="store_true", help="query, key and value by one matrix product")
    add("--quantize", choices=QUANTIZATIONS, help="layers of the denoiser in another format")
    add("--compile", action="store_true", help="torch.compile the denoiser, for each shape")
    add("--memory-format", choices=("channels_last",))
    add("--denoiser", help="a distilled model, whose denoiser draws instead")
    add("--autoencoder", help="tiny, or a folder with another autoencoder")
    add("--schedule", choices=tuple(SCHEDULES))
    add("--steps", type=positive, help="denoising steps, whatever a request asks")
    add("--no-guidance", dest="guidance", action="store_false", help="one pass for each step")
    add("--offload", choices=tuple(OFFLOADS))
    add("--threads", type=positive)
    words = Words(**vars(made.parse_args(argv)))
    if words.quantize == "qint8" and (words.dtype != "fp32" or words.device != "cpu"):
        made.error("--quantize qint8 computes on processors from fp32: leave --dtype and --device")
    if words.dtype == "tf32" and words.device == "cpu":
        made.error("--dtype tf32 needs a GPU: processors do not have that format")
    return words
