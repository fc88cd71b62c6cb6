"""The names that people type for ways to draw: `baseline`, `bf16+sdpa`, `few-2`, `all`. Pure.

Words joined with + are one method. What is not named is held still: arithmetic in fp32, and attention without
a fused kernel.
"""

import re
from collections.abc import Callable
from itertools import chain

from metainf.catalog.architectures import architecture
from metainf.catalog.digits import FEW, SMALL, digits
from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    BadInput,
    Compile,
    DistilledModel,
    FusedQkv,
    MemoryFormat,
    MemoryMode,
    Method,
    Model,
    NotSupported,
    Precision,
    Schedule,
    Technique,
    UnknownName,
    WeightQuantization,
)
from metainf.engines.measurable import Measurable
from metainf.engines.students import students_of
from metainf.measure.recipes import DRAWN_PLAINLY, PLAIN, named_methods

NAMES = {
    PLAIN: "fp32, attention without a fused kernel, nothing else",
    "bf16, fp16, tf32": "arithmetic in another number format",
    "sdpa": "PyTorch's fused attention kernel (others: flash, flash3, sage, xformers)",
    "fused-qkv": "query, key and value projections are one product",
    "int8": "large linear layers and pointwise convolutions in int8, weights and activations (torchao)",
    "qint8": "the same by PyTorch's own dynamic quantization, on processors from fp32",
    "int8-weights": "their weights alone in int8",
    "fp8": "their weights and activations in fp8 (GPUs)",
    "compile": "the denoiser is compiled for each shape",
    "channels-last": "convolutions read their channels side by side",
    "distilled": "a smaller, distilled denoiser; distilled:MODEL names it",
    "steps-N": "N denoising steps, whatever the workload says",
    "few-N": "a student that was distilled to N steps and no guidance (of digits)",
    "lcm-N, turbo-N": "the schedule of such students, in N steps and without guidance",
    "tiny-vae": "a distilled autoencoder decodes; tiny-vae:FOLDER names it",
    "cpu-offload": "parts wait in the processor's memory",
    "all": "bf16, sdpa, fused-qkv, int8 and compile together",
}
"""Words of a recipe, with what they mean."""
PARTS_OF_ALL = ("bf16", "sdpa", "fused-qkv", "int8", "compile")
FIXED: dict[str, Technique] = {
    "bf16": Precision(dtype="bf16"),
    "fp16": Precision(dtype="fp16"),
    "tf32": Precision(dtype="tf32"),
    "fp32": Precision(dtype="fp32"),
    "plain": AttentionBackend(name="plain"),
    **{name: AttentionBackend(name=name) for name in ("sdpa", "flash", "flash3", "sage", "xformers")},
    "fused-qkv": FusedQkv(),
    "int8": WeightQuantization(format="int8dq", bits=8, activation_bits=8),
    "qint8": WeightQuantization(format="qint8", bits=8, activation_bits=8),
    "int8-weights": WeightQuantization(format="int8wo", bits=8, activation_bits=16),
    "fp8": WeightQuantization(format="fp8dq", bits=8, activation_bits=8),
    "compile": Compile(),
    "channels-last": MemoryFormat(name="channels_last"),
    "tiny-vae": Autoencoder(name="tiny"),
    "cpu-offload": MemoryMode(name="model-cpu-offload"),
}
_COUNTED = re.compile(r"(steps|few|lcm|turbo)-(\d+)")


def methods_of(
    text: str, model: Model, engine: Measurable, read: Callable[[str], str] | None = None
) -> list[tuple[str, Method]]:
    """The ways to draw that a text names, each with a name to show; as
    `metainf.measure.recipes.methods_of`."""
    return named_methods(text, engine, read, lambda words: recipe(words, model, engine))


def recipe(text: str, model: Model, engine: Measurable) -> Method:
    """The way to draw of one recipe. UnknownName with near misses for a word that is none, NotSupported for a
    student that the model does not have."""
    words = [word.strip().lower() if ":" not in word else word.strip() for word in text.split("+")]
    found: dict[str, Technique] = {}
    for word in chain.from_iterable(PARTS_OF_ALL if each == "all" else (each,) for each in words):
        for technique in () if word == PLAIN else _techniques(word, model):
            if found.setdefault(technique.kind, technique) != technique:
                kind = technique.kind.replace("_", " ")
                raise BadInput(f"{text}: expected one {kind}, found two that differ")
    for technique in DRAWN_PLAINLY:
        found.setdefault(technique.kind, technique)
    return Method(engine=engine.name, techniques=tuple(found.values()))


def _techniques(word: str, model: Model) -> tuple[Technique, ...]:
    name, _, value = word.partition(":")
    if name in ("distilled", "tiny-vae") and value:
        return (DistilledModel(model=value) if name == "distilled" else Autoencoder(name=value),)
    if word in FIXED:
        return (FIXED[word],)
    if word == "distilled":
        return (DistilledModel(model=student_of(model)),)
    if (counted := _COUNTED.fullmatch(word)) is not None and int(counted[2]):
        return _counted(counted[1], int(counted[2]), model)
    raise UnknownName(
        "method", word, (PLAIN, *FIXED, "distilled", "steps-8", "few-2", "lcm-4", "turbo-4", "all")
    )


def _counted(kind: str, steps: int, model: Model) -> tuple[Technique, ...]:
    if kind == "steps":
        return (Schedule(steps=steps),)
    if kind in ("lcm", "turbo"):
        return (Schedule(name=kind, steps=steps, guided=False),)
    if model.name not in digits():
        raise NotSupported(
            f"few-{steps}: of {model.name} no few-step student is shipped: name it with distilled:MODEL and "
            f"its schedule with lcm-{steps} or turbo-{steps}"
        )
    return DistilledModel(model=FEW), Schedule(steps=steps, guided=False)


def student_of(model: Model) -> str:
    """The smaller model that stands in for one. NotSupported where none is known."""
    made_up = architecture(model.name)
    smaller = [each.model for each in students_of(model) if each.steps is None]
    student = made_up.student if made_up is not None else next(iter(smaller), None)
    if model.name in digits():
        student = SMALL
    if student is None:
        raise NotSupported(
            f"distilled: of {model.name} no smaller student is known: name one, distilled:MODEL"
        )
    return student
