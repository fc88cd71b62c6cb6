"""The classes of privacy that may be required, and what an answer says of one."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from metainf.domain.base import Frozen
from metainf.domain.setting import Hardware, Share

Class = Literal["transport", "trusted", "split", "attested", "encrypted-head"]
CLASSES: tuple[Class, ...] = get_args(Class)
MOST_BLOCKS = 4096


class Required(Frozen):
    """What is required. `trust`: marks, one of which whoever sees the text must have; `keep`: blocks that
    the client runs itself."""

    privacy: Class = "transport"
    trust: tuple[Annotated[str, Field(min_length=1, max_length=72)], ...] = ()
    keep: Annotated[int, Field(ge=0, le=MOST_BLOCKS)] = 0

    @model_validator(mode="after")
    def _fits(self) -> "Required":
        if self.privacy == "trusted" and not self.trust:
            raise ValueError("expected whom to trust, found nobody: give one or more marks")
        if self.privacy == "split" and not self.keep:
            raise ValueError("expected how many blocks the client keeps, 1 or more")
        if self.keep and self.privacy != "split":
            raise ValueError(f"blocks are kept only with split, not with {self.privacy}")
        return self

    @classmethod
    def asking(cls, privacy: str, trust: Iterable[str] = (), keep: int = 0) -> Self:
        """Raises BadInput."""
        return cls.of({"privacy": privacy, "trust": tuple(trust), "keep": keep})

    def covers(self, asked: "Required") -> bool:
        """Whether who keeps to this can keep to `asked` too; whom to trust is judged node by node."""
        if asked.privacy in ("transport", "trusted"):
            return True
        return asked.privacy == self.privacy and asked.keep <= self.keep


class PrivacyAsked(Required):
    """A class of privacy that a choice of hardware must respect. Marks of `trust`: `provider:NAME`,
    `region:NAME`, or `own` for hardware of one's own. With split, the client's machine and its line:
    `client_rtt_ms` is a round trip to the server, `client_mbit_s` the rate of both directions."""

    client_hardware: Annotated[str, Field(min_length=1, max_length=200)] | Hardware | None = None
    client_rtt_ms: Annotated[float, Field(ge=0, le=10_000)] = 30.0
    client_mbit_s: Annotated[float, Field(gt=0, le=1e6)] = 100.0

    @model_validator(mode="after")
    def _client(self) -> "PrivacyAsked":
        if self.privacy == "split" and self.client_hardware is None:
            raise ValueError("expected the client's hardware with split, such as apple-m2")
        if self.privacy != "split" and self.client_hardware is not None:
            raise ValueError(f"the client's hardware counts only with split, not with {self.privacy}")
        if self.privacy != "trusted" and self.trust:
            raise ValueError(f"whom to trust counts only with trusted, not with {self.privacy}")
        return self

    @classmethod
    def stating(cls, values: dict[str, Any]) -> Self:
        """From plain values, hardware as it is among them. Raises BadInput."""
        client = values.get("client_hardware")
        if isinstance(client, Hardware):
            values = values | {"client_hardware": client.model_dump(mode="json", exclude_none=True)}
        return cls.of(values)


class ClientPart(Frozen):
    """What the client does of a split model: its share of the work of a token, the seconds that it takes of
    its own, and what goes over its line."""

    hardware: str
    share: Share
    seconds_per_token: NonNegativeFloat
    seconds_to_first_token: NonNegativeFloat
    line_seconds_per_token: NonNegativeFloat
    line_seconds_to_first_token: NonNegativeFloat
    bytes_per_token: PositiveInt
    memory_gib: PositiveFloat
    rtt_ms: NonNegativeFloat
    mbit_s: PositiveFloat


class Privacy(Frozen):
    """The class that a selection kept to. `private` is what the measured attacks allow to be said; `recovery`
    the largest share of a prompt that one of them read back, absent where none was measured."""

    name: Class
    private: bool
    protects: str
    exposes: str
    recovery: Share | None = None
    trust: tuple[str, ...] = ()
    keep: NonNegativeInt = 0
    client: ClientPart | None = None


class Guarded(Frozen):
    """What the class makes of one answer. `privacy_price_ratio`: what a token costs with the class, by what
    it costs without; absent where that is not known. `provider` is whose price was taken."""

    name: Class
    private: bool
    privacy_price_ratio: PositiveFloat | None = None
    provider: str | None = None
