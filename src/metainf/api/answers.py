"""Answers as they travel, where one word of the domain is not enough: pairs of them, pages, summaries."""

from typing import Any

from pydantic import Field, NonNegativeInt

from metainf.api.evidence import Ablation, Accuracy
from metainf.api.over_time import Moment, Revealed
from metainf.api.results import Judged
from metainf.domain import Device, Frozen, Method, Record, Workload
from metainf.store.jobs import Job as Job
from metainf.store.keys import Key as Key
from metainf.store.keys import Scope


class Page(Frozen):
    """Some records, oldest addition first; `next` where there may be more."""

    records: tuple[Record, ...]
    next: int | None = None


class Kept(Frozen):
    """What became of records that were added: on disk when this is read. Ids in the order given."""

    new: NonNegativeInt
    known: NonNegativeInt
    ids: tuple[str, ...]


class Source(Frozen):
    """What a store holds of one source. Dates are the earliest and latest named."""

    source: str
    records: NonNegativeInt
    failed: NonNegativeInt
    models: NonNegativeInt
    devices: NonNegativeInt
    first_date: str | None = None
    last_date: str | None = None


class Offer(Frozen):
    """A device with its median on-demand price, in US dollars per device and hour."""

    device: Device
    usd_per_device_hour: float | None = None


class Named(Frozen):
    """A named workload and where its figures come from."""

    workload: Workload
    source: str


class Started(Frozen):
    """A method and the command that starts it."""

    method: Method
    command: str


class Kind(Frozen):
    """A kind of technique: what it is, and which engines have a setting for it."""

    kind: str
    meaning: str
    engines: tuple[str, ...] = ()


class Share(Frozen):
    """How much one cause makes of a target, as a share."""

    target: str
    cause: str
    share: float


class Evaluation(Frozen):
    """The predictor in use (`manifest`: its records, their hash, their sources) and how the shipped one was
    judged on what it had never seen: its choices, its numbers, what it loses without a part, its choices at
    one date after another (`over_time`), and the choices of one machine as its runs become known
    (`by_runs`)."""

    manifest: dict[str, Any]
    judged: tuple[Judged, ...]
    accuracy: tuple[Accuracy, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    over_time: tuple[Moment, ...] = ()
    by_runs: tuple[Revealed, ...] = ()


class KeyAsked(Frozen):
    """A key to make."""

    name: str = Field(min_length=1, max_length=100)
    scope: Scope


class MadeKey(Frozen):
    """A new key; `secret` is shown this once and kept nowhere."""

    key: Key
    secret: str


class State(Frozen):
    """How the service is."""

    status: str
    version: str
