"""What is asked of a model that draws: pixels, steps, batches. Pure.

A text such as `image`, `image:256`, `image:256x192@10` is a drawing of those pixels in so many steps; what is
not said is the model's own. Digits (`metainf.hosts.digits`) are asked for by themselves, all others by
made-up prompts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from metainf.catalog.digits import CLASSES, digits
from metainf.domain import BadInput, Model, UnknownName
from metainf.hosts.pictures import Sketch
from metainf.measure.words import Drawing

WORD = "image"
BATCHES, LEAST_PICTURES, COMPARED = 2, 2, 2
DIGITS_DRAWN = 200
"""Of digits as many are drawn as tell two shares of recognised ones apart."""
PX, STEPS = 512, 20
CRUDE_S = 1e-11
"""Seconds of a small processor for each parameter, 8 × 8 pixels and step: 0.2 operations of a U-Net and 0.5
of a transformer (`embed.drawing`) at 20 to 50 thousand million a second. A first guess, corrected as runs
end."""
_TEXT = re.compile(rf"{WORD}(?::(?P<width>\d+)(?:x(?P<height>\d+))?)?(?:@(?P<steps>\d+))?")
_THINGS = ("a red boat", "an old bridge", "three apples", "a sleeping cat", "a paper kite", "a stone house")
_PLACES = ("in the morning", "under a grey sky", "by the sea", "in deep snow", "on a wooden table")


@dataclass(frozen=True)
class Batches:
    """How much is drawn: each of `sizes` is a drawing of its own. `pictures` None: two batches."""

    sizes: Sequence[int] = (1,)
    pictures: int | None = None
    seed: int = 0


def is_drawing(text: str) -> bool:
    """Whether a workload's name asks for pictures."""
    return text.partition(":")[0].partition("@")[0] == WORD


def drawings_of(text: str, model: Model, batches: Batches) -> list[Drawing]:
    """One drawing for each batch size. UnknownName and BadInput for what cannot be understood."""
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None:
        if is_drawing(text):
            raise BadInput(f"expected image, image:256, image:256x192 or image:256@20, found {text!r}")
        raise UnknownName("workload", text, (WORD, f"{WORD}:512x512", f"{WORD}:256@20"))
    if any(size < 1 for size in batches.sizes):
        raise BadInput(f"expected at least 1 picture in a batch, found {min(batches.sizes)}")
    if batches.pictures is not None and batches.pictures < 1:
        raise BadInput(f"expected at least 1 picture, found {batches.pictures}")
    width = int(found["width"] or model.default_resolution_px or PX)
    height = int(found["height"] or width)
    steps = int(found["steps"] or model.default_steps or STEPS)
    if not width or not height or not steps:
        raise BadInput(f"expected pixels and steps of at least 1, found {text!r}")
    return [_drawing(model, (width, height, steps, size), batches) for size in batches.sizes or (1,)]


def _drawing(model: Model, asked: tuple[int, int, int, int], batches: Batches) -> Drawing:
    width, height, steps, batch = asked
    counted = model.name in digits()
    pictures = batches.pictures or (DIGITS_DRAWN if counted else max(BATCHES * batch, LEAST_PICTURES))
    words = [str(place % CLASSES) if counted else _prompt(place) for place in range(pictures)]
    seeds = [1000 * (batches.seed + 1) + place for place in range(pictures)]
    sketches = tuple(
        Sketch(tuple(words[start : start + batch]), tuple(seeds[start : start + batch]), width, height, steps)
        for start in range(0, pictures, batch)
    )
    compared = sketches if counted else sketches[: max(1, COMPARED // batch)]
    name = f"{WORD}-{width}x{height}-s{steps}-b{batch}"
    return Drawing(name, sketches, compared, width, height, steps, batch, batches.seed)


def _prompt(place: int) -> str:
    return f"{_THINGS[place % len(_THINGS)]} {_PLACES[place // len(_THINGS) % len(_PLACES)]}"


def crude_s(model: Model, drawing: Drawing) -> float:
    """A guess at the seconds of one picture."""
    params = 1e9 * (model.denoiser_params_b or 1.0)
    passes = 2 if model.guidance_doubles else 1
    return CRUDE_S * params * passes * drawing.steps * drawing.width_px * drawing.height_px / 64
