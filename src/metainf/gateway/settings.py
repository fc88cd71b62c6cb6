"""How a gateway is set up."""

from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from metainf.domain import Frozen
from metainf.service.settings import MIB


class GatewaySettings(Frozen):
    """What a gateway works with. Times in seconds, sizes in bytes.

    `explore` is the share of requests for which another endpoint that meets the limits comes before the
    best; `rate` so many requests of one key or address, absent for no limit; `public`: whether it is reached
    from other machines, then nothing is answered without a key.
    """

    store: str | None = None
    predictor: str | None = None
    public: bool = False
    rate: str | None = None
    attempts: PositiveInt = 3
    stall_s: PositiveFloat = 30.0
    deadline_s: PositiveFloat = 600.0
    probe_every_s: PositiveFloat = 5.0
    explore: NonNegativeFloat = Field(default=0.02, le=1)
    most_body: PositiveInt = 16 * MIB
    most_waiting: PositiveInt = 64
    body_timeout_s: PositiveFloat = 60.0

    @property
    def predictor_path(self) -> Path | None:
        """The predictor's file, None for the shipped one."""
        return None if self.predictor is None else Path(self.predictor)
