"""Record = Setting × Method → Outcome, with provenance. Immutable, content-addressed, append-only."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from metainf.domain.base import Frozen
from metainf.domain.method import Method
from metainf.domain.setting import Setting, Share


class Metrics(Frozen):
    """What a run showed. Seconds, tokens per second, joules, watts, GiB; absent where not measured.

    `output_tokens_per_s` counts generated tokens of all devices together. A latency without a
    percentile in its name is a mean. `goodput_per_s` counts the requests that met every limit of the
    objective, `prefix_hit_share` the prompt tokens found in the prefix cache, `accepted_share` the
    drafted tokens that were accepted; the last two are the engine's own counts. `accepted_tokens` are those
    that a request gained by one step of speculation, on average, the step's own included. `usd_per_request`
    is what one request cost, where a price was known.
    """

    output_tokens_per_s: PositiveFloat | None = None
    total_tokens_per_s: PositiveFloat | None = None
    prefill_tokens_per_s: PositiveFloat | None = None
    requests_per_s: PositiveFloat | None = None
    goodput_per_s: NonNegativeFloat | None = None
    ttft_s: PositiveFloat | None = None
    ttft_p50_s: PositiveFloat | None = None
    ttft_p90_s: PositiveFloat | None = None
    ttft_p99_s: PositiveFloat | None = None
    tpot_s: PositiveFloat | None = None
    tpot_p50_s: PositiveFloat | None = None
    tpot_p90_s: PositiveFloat | None = None
    tpot_p99_s: PositiveFloat | None = None
    itl_s: PositiveFloat | None = None
    itl_p50_s: PositiveFloat | None = None
    itl_p90_s: PositiveFloat | None = None
    itl_p99_s: PositiveFloat | None = None
    e2e_s: PositiveFloat | None = None
    e2e_p50_s: PositiveFloat | None = None
    e2e_p90_s: PositiveFloat | None = None
    e2e_p99_s: PositiveFloat | None = None
    images_per_s: PositiveFloat | None = None
    steps_per_s: PositiveFloat | None = None
    power_w: PositiveFloat | None = None
    energy_j_per_request: PositiveFloat | None = None
    energy_j_per_token: PositiveFloat | None = None
    memory_gib: PositiveFloat | None = None
    speedup: PositiveFloat | None = None
    accepted_tokens: PositiveFloat | None = None
    accepted_share: Share | None = None
    prefix_hit_share: Share | None = None
    usd_per_request: NonNegativeFloat | None = None
    quality: float | None = None
    quality_metric: str | None = None


class Measured(Frozen):
    kind: Literal["measured"] = "measured"
    metrics: Metrics
    derived: tuple[str, ...] | None = None


class Failed(Frozen):
    """A run that gave no numbers. That is an observation too."""

    kind: Literal["failed"] = "failed"
    reason: Literal["out_of_memory", "unsupported", "crashed", "timed_out", "unknown"]
    detail: str | None = Field(default=None, max_length=4000)


Outcome = Annotated[Measured | Failed, Field(discriminator="kind")]


class Conditions(Frozen):
    """What the machine was like during a run of our own: `host` is what its processor calls itself;
    `other_load` is the load average of one minute
    before the run started; `other_cpu_share` the share of all cores that other processes used during it;
    `energy` what the energy figures are of (whole devices, with everything else that ran on them);
    `warm_up_s` the seconds before the clock of a pipeline that draws, compiling included."""

    host: str | None = None
    cores: PositiveInt | None = None
    other_load: NonNegativeFloat | None = None
    other_cpu_share: Share | None = None
    duration_s: PositiveFloat | None = None
    energy: str | None = None
    warm_up_s: PositiveFloat | None = None


class Provenance(Frozen):
    """Where a record comes from. `campaign` groups runs made together; `trial` tells repeats apart.

    `command` is the engine's command line where the run was ours.
    """

    source: str = Field(min_length=1)
    campaign: str | None = None
    licence: str | None = None
    location: str | None = None
    date: str | None = None
    tool: str | None = None
    trial: NonNegativeInt = 0
    command: str | None = Field(default=None, max_length=4000)
    conditions: Conditions | None = None


class Record(Frozen):
    """One observation of the performance tensor P[task, method, hardware]."""

    setting: Setting
    method: Method
    outcome: Outcome
    provenance: Provenance

    @property
    def metrics(self) -> Metrics | None:
        """The measured numbers, or None for a failure."""
        return self.outcome.metrics if isinstance(self.outcome, Measured) else None


class Rejected(Frozen):
    """A row of a foreign file that could not become a record, and why."""

    row: NonNegativeInt
    reason: str = Field(min_length=1)


class Estimate(Frozen):
    """A predicted number: the median and the bounds of a 90 % interval."""

    value: NonNegativeFloat
    low: NonNegativeFloat
    high: NonNegativeFloat
