"""diffusers behind OpenAI's images API: `python -m metainf.hosts.diffusers MODEL ...`.

MODEL is a folder or a hub name, an architecture with random weights (`sdxl-like/small`), or `digits`. The
facts on the metrics page are read from the parts and from the kernels of a looked-at drawing, not from the
command line.
"""

import inspect
import os
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from metainf.domain import BadInput, MissingExtra
from metainf.hosts.counters import Counters
from metainf.hosts.diffusers_apply import prepared
from metainf.hosts.diffusers_seen import kernels, of_kernels, of_modules
from metainf.hosts.diffusers_words import Words, read_words
from metainf.hosts.openai import listen
from metainf.hosts.pictures import Drawn, Gallery, Sketch
from metainf.hosts.start import answer


class Diffusers:
    """A pipeline with its methods applied, and what was seen of them."""

    def __init__(self, words: Words) -> None:
        import diffusers
        import torch

        diffusers.utils.logging.set_verbosity_error()
        self.words, self.torch = words, torch
        self.model = words.served_model_name or Path(words.model).name
        self.loaded = prepared(words)
        self.counters = Counters("diffusers")
        self.counters.facts = of_modules(torch, self.loaded) | {
            "version": diffusers.__version__,
            "torch": torch.__version__,
            "threads": str(torch.get_num_threads()),
        }
        self._turn = threading.Lock()

    def draw(self, sketch: Sketch) -> Drawn:
        """One batch. A looked-at one is drawn twice, the second time with its kernels listed."""
        with self._turn, self.torch.no_grad():
            drawn = self._draw(sketch)
            if sketch.looked_at:
                found = of_kernels(kernels(self.torch, lambda: self._draw(sketch)))
                self.counters.facts |= of_modules(self.torch, self.loaded) | found
            else:
                self.counters.sums["batches"] += 1
                self.counters.sums["pictures"] += len(sketch.prompts)
                self.counters.sums["steps"] += len(drawn.step_s)
            return drawn

    def _draw(self, sketch: Sketch) -> Drawn:
        torch, loaded, words = self.torch, self.loaded, self.words
        guided = loaded.guided and words.guidance
        given: dict[str, Any] = {
            name: value.to(words.device) if torch.is_tensor(value) else value
            for name, value in loaded.asks(sketch.prompts, guided).items()
        }
        for name, value in (("width", sketch.width_px), ("height", sketch.height_px)):
            given |= {} if value is None else {name: value}
        steps = (1 if sketch.looked_at else None) or words.steps or sketch.steps
        given |= {} if steps is None else {"num_inference_steps": steps}
        if loaded.guided and not words.guidance:
            given["guidance_scale"] = 0.0 if words.schedule == "turbo" else 1.0
        given["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in sketch.seeds]
        times: list[float] = []

        def ended(*held: Any) -> Any:
            self._wait()
            times.append(time.perf_counter())
            return held[-1]

        if "callback_on_step_end" in inspect.signature(type(loaded.pipe).__call__).parameters:
            given["callback_on_step_end"] = ended
        else:
            given |= {"callback": ended, "callback_steps": 1}
        begun_s = time.perf_counter()
        found = loaded.pipe(output_type="np", **given).images
        self._wait()
        done_s = time.perf_counter()
        marks = [begun_s, *times]
        step_s = tuple(later - earlier for earlier, later in pairwise(marks))
        return Drawn(np.asarray(found, dtype=np.float32), done_s - begun_s, step_s, done_s - marks[-1])

    def _wait(self) -> None:
        if self.words.device == "cuda":
            self.torch.cuda.synchronize()

    def metrics(self) -> str:
        """Facts and counters."""
        return self.counters.text({})

    def close(self) -> None:
        """Stop; what is being drawn ends with the process."""
        sys.stdout.flush()
        os._exit(0)


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end; see `metainf.hosts.start.answer` for what it returns."""
    words = read_words(argv)

    def load() -> Diffusers:
        try:
            return Diffusers(words)
        except ImportError as error:
            raise MissingExtra(f"drawing with diffusers ({error})", "images") from error
        except BadInput as error:
            raise ValueError(str(error)) from error

    async def serve(painter: Diffusers, taken: Any) -> None:
        await listen(Gallery(painter).application(), taken, painter.close)

    return answer(load, serve, words.model, words.host, words.port)


if __name__ == "__main__":
    sys.exit(main())
