"""The HTTP side of a host that draws: OpenAI's images API over aiohttp, in front of any `Painter`.

`POST /v1/images/generations` takes `prompt` (one text or a list, a picture for each), `n`, `size` and
`response_format` as OpenAI's does, and besides `steps` and `seeds`. The pictures of one request are one
batch, and requests are drawn one after another. `response_format` may also be `npy` (float32 in 0..1) or
`none`. The answer tells seconds: of the whole drawing, of each step, of what came after the last step.
"""

import asyncio
import base64
import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.hosts.paths import Paths, reply

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

Json = dict[str, Any]
FORMATS = ("b64_json", "npy", "none")
_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Sketch:
    """A batch to draw: a prompt and a seed for each picture, pixels, and steps (None: the model's own).
    `looked_at`: the running kernels are listed, which costs time."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    width_px: int | None = None
    height_px: int | None = None
    steps: int | None = None
    looked_at: bool = False


@dataclass(frozen=True)
class Drawn:
    """A batch that was drawn: pictures (n, height, width, channels) in 0..1 and where the seconds went."""

    pictures: NDArray[np.float32]
    draw_s: float
    step_s: tuple[float, ...]
    decode_s: float


class Painter(Protocol):
    """The engine behind a host. `draw` raises BadInput for what it cannot draw."""

    model: str

    def draw(self, sketch: Sketch) -> Drawn:
        """Draw one batch; called from one thread at a time."""

    def metrics(self) -> str:
        """Its facts and counters in Prometheus text."""

    def close(self) -> None:
        """Stop drawing; called once."""


def sketch_of(body: Json) -> Sketch:
    """What the JSON of a request asks. BadInput names the field that cannot be understood."""
    prompt = body.get("prompt")
    prompts = [prompt] * _count(body.get("n", 1), "n") if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) for p in prompts):
        raise BadInput(f"expected prompt to be a text or a list of texts, found {prompt!r:.80}")
    seeds = body.get("seeds", list(range(len(prompts))))
    if not isinstance(seeds, list) or len(seeds) != len(prompts) or not all(type(s) is int for s in seeds):
        raise BadInput(f"expected seeds to be {len(prompts)} whole numbers, found {seeds!r:.80}")
    size, width, height = body.get("size", "auto"), None, None
    if size != "auto":
        found = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if found is None:
            raise BadInput(f"expected size such as 512x512, found {size!r:.80}")
        width, height = int(found[1]), int(found[2])
    steps = body.get("steps")
    return Sketch(
        tuple(prompts), tuple(seeds), width, height,
        None if steps is None else _count(steps, "steps"), bool(body.get("look", False)),
    )  # fmt: skip


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(f"expected {name} to be a whole number from 1 on, found {value!r:.80}")
    return value


class Gallery(Paths):
    """The handlers in front of one painter."""

    most_body = 16 * 2**20

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.painter = painter
        self._turn = asyncio.Lock()

    def application(self, middlewares: Sequence[Any] = ()) -> "Application":
        """The aiohttp application. MissingExtra without aiohttp."""
        app = super().application(middlewares)
        app.router.add_post("/v1/images/generations", self.generate)
        return app

    async def generate(self, request: "Request") -> "StreamResponse":
        """One batch; 400 with the reason for what cannot be understood."""
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise BadInput("expected a JSON object with prompt")
            form = body.get("response_format", FORMATS[0])
            if form not in FORMATS:
                raise BadInput(
                    f"expected response_format to be one of {', '.join(FORMATS)}, found {form!r:.80}"
                )
            sketch = sketch_of(body)
            async with self._turn:
                drawn = await asyncio.to_thread(self.painter.draw, sketch)
        except (BadInput, ValueError) as error:
            return reply({"error": {"message": str(error), "type": "invalid_request_error"}}, 400)
        except Exception as error:
            return reply({"error": {"message": f"{type(error).__name__}: {error}"[:2000]}}, 500)
        timing = {"draw_s": drawn.draw_s, "step_s": drawn.step_s, "decode_s": drawn.decode_s}
        return reply({"created": int(time.time()), "data": shown(drawn.pictures, form), "timing": timing})


def shown(pictures: Sequence[NDArray[np.float32]] | NDArray[np.float32], form: str) -> list[Json]:
    """Pictures in a response format: PNG or npy in base64, or nothing of them."""
    if form == "none":
        return [{} for _ in pictures]
    return [
        {form: base64.b64encode(_npy(each) if form == "npy" else _png(each)).decode()} for each in pictures
    ]


def _npy(picture: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, picture.astype(np.float32), allow_pickle=False)
    return file.getvalue()


def _png(picture: NDArray[np.float32]) -> bytes:
    from PIL import Image

    levels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(file, format="PNG")
    return file.getvalue()
