"""How a service is set up. Passed to workers in one environment variable, as JSON."""

from pydantic import Field, PositiveInt

from metainf.domain import Frozen

VARIABLE = "METAINF_SERVE"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIB = 1024 * 1024


class Settings(Frozen):
    """What the service works with and what it lets through.

    `public`: whether it is reached from other machines; then nothing is answered without a key.
    `store` is a file or URL; `spool` the folder of uploads; `rate` so many requests of one key or address
    ("200/second"), absent for no limit; `origins` what browsers may call it (CORS). Sizes in bytes.
    `swarm` is a directory's address to watch, `reputation` a file of reputations, `queue` a broker's address.
    """

    store: str | None = None
    predictor: str | None = None
    spool: str | None = None
    public: bool = False
    offline: bool = True
    rate: str | None = "200/second"
    origins: tuple[str, ...] = ()
    most_body: PositiveInt = Field(default=MIB // 4)
    most_records: PositiveInt = Field(default=16 * MIB)
    most_upload: PositiveInt = Field(default=512 * MIB)
    most_waiting: PositiveInt = 64
    body_timeout_s: float = Field(default=60.0, gt=0)
    swarm: str | None = None
    reputation: str | None = None
    queue: str | None = None
