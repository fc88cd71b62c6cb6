"""The recipe that gives a way to draw back, such as `bf16+sdpa` or `few-2`. Pure."""

from metainf.catalog.digits import FEW, SMALL
from metainf.domain import Autoencoder, DistilledModel, Method, Schedule, Technique
from metainf.measure.picture_recipes import FIXED
from metainf.measure.recipes import DRAWN_PLAINLY, PLAIN

_ORDER = ("bf16", "fp16", "tf32", "sdpa", "flash", "fused-qkv", "channels-last", "int8", "qint8", "compile")
"""Of the words; a decoder comes last."""


def recipe_name(method: Method) -> str:
    """Words joined with +, the engine's version aside; `baseline` for the plain way."""
    said = {technique: word for word, technique in FIXED.items()}
    words: list[str] = []
    student, schedule = method.get(DistilledModel), method.get(Schedule)
    for technique in method.techniques:
        if technique in DRAWN_PLAINLY or technique in (student, schedule):
            continue
        words.append(said.get(technique) or _other(technique))
    words.sort(key=_place)
    words[_decoder(words) :] = [*_shorter(student, schedule), *words[_decoder(words) :]]
    return "+".join(words) or PLAIN


def _place(word: str) -> int:
    if word.startswith("tiny-vae"):
        return len(_ORDER) + 1
    return _ORDER.index(word) if word in _ORDER else len(_ORDER)


def _decoder(words: list[str]) -> int:
    """Where the words of a decoder begin, which come last."""
    return next((place for place, word in enumerate(words) if word.startswith("tiny-vae")), len(words))


def _shorter(student: DistilledModel | None, schedule: Schedule | None) -> list[str]:
    """What makes the work less: a smaller model, fewer steps."""
    steps = None if schedule is None else schedule.steps
    if student is not None and student.model == FEW and steps is not None:
        return [f"few-{steps}"]
    words = []
    if student is not None:
        known = student.model == SMALL or "-like/" in student.model
        words.append("distilled" if known else f"distilled:{student.model}")
    if schedule is not None:
        words.append(f"{schedule.name or 'steps'}-{steps or 'as asked'}")
    return words


def _other(technique: Technique) -> str:
    if isinstance(technique, Autoencoder):
        return f"tiny-vae:{technique.name}"
    told = technique.model_dump(mode="json", exclude_none=True)
    return " ".join(str(value) for value in told.values())
