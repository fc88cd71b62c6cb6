"""The study of pictures: which runs it makes, and the records of it that ship. Pure but for reading those.

After the paper's section 2.2: its five methods and their combinations, on UNets and transformers with random
weights (true speeds, pictures of noise) and on trained models of digits (small, but with a quality to lose),
over pixels, steps and batches. Processors draw with architectures at reduced size, GPUs at full size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files

from metainf.catalog.digits import TEACHER, are_trained
from metainf.domain import BadInput, Record

CAMPAIGN = "images-"
ENGINE = "diffusers"
ATTENTION = ("baseline", "sdpa", "bf16+sdpa")
UNET = (
    *ATTENTION, "sdpa+fused-qkv", "bf16+sdpa+channels-last", "sdpa+int8", "sdpa+qint8", "distilled",
    "distilled+tiny-vae", "steps-2", "bf16+sdpa+channels-last+compile",
    "bf16+sdpa+channels-last+distilled+tiny-vae",
)  # fmt: skip
LARGER_UNET = (*ATTENTION, "sdpa+fused-qkv", "sdpa+int8", "distilled", "tiny-vae", "distilled+tiny-vae")
TRANSFORMER = (
    *ATTENTION, "sdpa+fused-qkv", "sdpa+int8", "sdpa+qint8", "bf16+sdpa+compile", "bf16+sdpa+int8+compile",
)  # fmt: skip
DIGITS = (
    "baseline", "sdpa", "bf16+sdpa", "sdpa+int8", "sdpa+qint8", "steps-8", "steps-4", "steps-2", "distilled",
    "distilled+steps-8", "few-4", "few-2", "few-1",
)  # fmt: skip


@dataclass(frozen=True)
class ImagePart:
    """One sweep: methods on the drawings of one model. `workloads` as `metainf.measure.drawing` reads
    them."""

    model: str
    workloads: tuple[str, ...]
    batches: tuple[int, ...]
    methods: tuple[str, ...]
    pictures: int | None = None
    repeats: int = 1

    @property
    def campaign(self) -> str:
        """Names the sweep in the store, so that a stopped one can go on."""
        return f"{CAMPAIGN}{self.model.replace('/', '-')}"

    @property
    def words(self) -> str:
        """What runs, for a progress bar."""
        return self.model


PARTS = (
    ImagePart("sd15-like/small", ("image:256@4", "image:320@4"), (1, 2), UNET),
    ImagePart("sdxl-like/small", ("image:256@4", "image:320@4"), (1, 2), LARGER_UNET),
    ImagePart("pixart-like/small", ("image:256@4", "image:256@8"), (1, 2), TRANSFORMER),
    ImagePart("flux-like/small", ("image:256@4", "image:256@8", "image:320@4"), (1, 2), TRANSFORMER[:-2]),
    ImagePart(TEACHER, ("image:8@20",), (50,), DIGITS, pictures=200, repeats=2),
)
"""Of a processor: under an hour on two cores."""
GPU_ATTENTION = (*ATTENTION, "tf32+sdpa", "fp16+sdpa", "sdpa+fused-qkv", "bf16+sdpa+fused-qkv", "sdpa+int8")
GPU_UNET = (
    *GPU_ATTENTION, "bf16+sdpa+channels-last", "bf16+sdpa+int8", "bf16+sdpa+channels-last+compile",
    "bf16+sdpa+channels-last+int8+compile", "distilled", "distilled+tiny-vae", "bf16+sdpa+steps-10",
    "bf16+sdpa+channels-last+distilled+tiny-vae", "bf16+sdpa+channels-last+compile+distilled+tiny-vae",
)  # fmt: skip
GPU_TRANSFORMER = (
    *GPU_ATTENTION, "bf16+sdpa+int8", "bf16+sdpa+fp8", "bf16+sdpa+compile", "bf16+sdpa+int8+compile",
    "bf16+sdpa+compile+fp8", "bf16+sdpa+fused-qkv+compile", "bf16+sdpa+tiny-vae", "bf16+sdpa+steps-4",
)  # fmt: skip
GPU_PARTS = (
    ImagePart("sd15-like/full", ("image:512@20", "image:768@20"), (1, 4), GPU_UNET),
    ImagePart("sdxl-like/full", ("image:768@20", "image:1024@20"), (1, 4), GPU_UNET),
    ImagePart("flux-like/full", ("image:512@8", "image:1024@8"), (1, 2), GPU_TRANSFORMER),
    ImagePart(TEACHER, ("image:8@20",), (50,), (*DIGITS[:4], *DIGITS[5:]), pictures=200, repeats=2),
)
"""Of a GPU: what does not fit its memory, and formats that it does not compute in, are left out when the runs
are laid out."""


def parts(models: Sequence[str] = (), methods: Sequence[str] = (), on_gpu: bool = False) -> list[ImagePart]:
    """The sweeps of a processor or of a GPU, of some models and methods only where these are named. BadInput
    where none is left."""
    sweeps = GPU_PARTS if on_gpu else PARTS
    known = [part.model for part in sweeps]
    wrong = [name for name in models if name not in known]
    if wrong:
        kind = "a GPU" if on_gpu else "a processor"
        raise BadInput(
            f"expected models of the study on {kind}, {', '.join(known)}; found {', '.join(wrong)}"
        )
    return [
        replace(part, methods=tuple(methods) or part.methods)
        for part in sweeps
        if (not models or part.model in models) and (part.model != TEACHER or are_trained())
    ]


def of_images(records: Sequence[Record]) -> list[Record]:
    """Those that belong to the study of pictures, by the name of their campaign."""
    return [record for record in records if (record.provenance.campaign or "").startswith(CAMPAIGN)]


def shipped() -> list[Record]:
    """The study made for this release; nothing where it is not packaged."""
    from metainf.store.files import read_records

    packaged = files("metainf.study") / "data" / "study_images.parquet"
    if not packaged.is_file():
        return []
    with as_file(packaged) as path:
        return list(read_records(path))
