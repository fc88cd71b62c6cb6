"""What MetaInf's predictor expects of the methods that replicas announce, worked out beside the texts."""

import logging
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metainf import catalog
from metainf.domain import MetaInfError
from metainf.swarm.schedule.candidates import Forecast
from metainf.swarm.schedule.roster import Speed
from metainf.swarm.words import Announcement

if TYPE_CHECKING:
    from metainf.domain import Hardware

LOG = logging.getLogger("metainf.swarm")
NAMED = re.compile(r"(?:(?P<count>\d{1,4})x )?(?P<name>[^,]+)(?:,.*)?")
"""Hardware as nodes announce it."""
TEXT_TOKENS, MOST_KNOWN = 1024.0, 64
Key = tuple[str, str, tuple[str, ...]]


class Foretelling:
    """Called with a replica's word it gives its forecast, or nothing until that is worked out: in a thread of
    its own, once for each hardware, engine and set of methods. What cannot be predicted stays nothing."""

    def __init__(self, folder: Path, predictor: Path | None = None) -> None:
        self.folder, self.predictor = folder, predictor
        self.known: dict[Key, Forecast] = {}
        self._one_by_one = threading.Lock()

    def __call__(self, word: Announcement) -> Forecast:
        said = word.features
        if said.hardware is None or said.writing is None:
            return {}
        key = (said.hardware, word.profile.engine, tuple(each.method for each in said.writing.methods))
        if key not in self.known:
            if len(self.known) >= MOST_KNOWN:
                return {}
            self.known[key] = {}
            threading.Thread(target=self._learn, args=(key,), name="foretelling", daemon=True).start()
        return self.known[key]

    def _learn(self, key: Key) -> None:
        with self._one_by_one:
            try:
                self.known[key] = self.worked_out(key)
            except (MetaInfError, OSError, ValueError) as error:
                LOG.info("nothing is forecast of %s: %s", key, str(error)[:300])

    def worked_out(self, key: Key) -> Forecast:
        """The forecast by methods. Raises MetaInfError where the predictor does not know one of the parts."""
        from metainf.api.scheduling import rates
        from metainf.catalog.huggingface import read_config
        from metainf.engines import engine
        from metainf.measure.recipes import recipe
        from metainf.measure.serving import serving_engine

        hardware, engine_name, names = key
        found = serving_engine(engine(engine_name))
        settings = [(name, [recipe(name, found)]) for name in names]
        told = rates(
            read_config(self.folder / "config.json"),
            [hardware_of(hardware)],
            settings,
            TEXT_TOKENS,
            self.predictor,
        )
        arrays = [told.prefill_s_per_token, told.step_s, told.step_per_sequence_s, told.spread]
        found_of = {name: [float(each[0, at]) for each in arrays] for at, name in enumerate(names)}
        return {
            name: Speed(prefill_s, step_s, each_s, spread)
            for name, (prefill_s, step_s, each_s, spread) in found_of.items()
            if np.isfinite(prefill_s + step_s + each_s + spread)
        }


def hardware_of(announced: str) -> "Hardware":
    """Hardware of the catalogue by what nodes call it. Raises BadInput, UnknownName."""
    match = NAMED.fullmatch(announced.strip())
    text = announced if match is None else f"{match['count'] or 1}x{match['name'].strip()}"
    return catalog.parse_hardware(text)[0]
