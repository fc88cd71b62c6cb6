"""Which offers a class of privacy lets in, and at whose price. Pure.

An offer is a machine at a price. Nobody's name hangs on the usual price (a median), so `trusted` takes the
cheapest price among the providers on the list instead, and tells it by the cheapest of all providers: the
same machine, the same kind of price, only fewer to choose from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metainf.domain import Hardware, PrivacyAsked

OWN, PROVIDER, REGION = "own", "provider:", "region:"
USUAL = 4
"""Providers that a reason names at most."""


@dataclass(frozen=True)
class Machine:
    """Hardware with its price per hour without any class. `own` is what nobody is asked to rent out: its
    price was stated, it is here, or no price of it is known. `quotes`: US dollars per hour by provider."""

    hardware: Hardware
    usd_per_hour: float | None
    own: bool = False
    quotes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Admitted:
    """At which price, told by what it costs without the class (absent where not known), and whose it is."""

    usd_per_hour: float | None
    ratio: float | None = 1.0
    provider: str | None = None


def admit(asked: PrivacyAsked, machine: Machine) -> Admitted | str:
    """The offer as the class lets it in, or why it does not."""
    if asked.privacy == "trusted":
        return _trusted(asked.trust, machine)
    if asked.privacy == "attested":
        return _attested(machine)
    return Admitted(machine.usd_per_hour)


def _trusted(marks: tuple[str, ...], machine: Machine) -> Admitted | str:
    name = machine.hardware.device.name
    if machine.own:
        if OWN in marks:
            return Admitted(machine.usd_per_hour)
        return f"{name} is your own, by its price or for want of one, and own is not on the list of trust"
    named = {mark.removeprefix(PROVIDER) for mark in marks if mark.startswith(PROVIDER)}
    open_ = {who: usd for who, usd in machine.quotes.items() if who in named}
    if open_:
        who = min(open_, key=lambda each: (open_[each], each))
        return Admitted(open_[who], open_[who] / min(machine.quotes.values()), who)
    return f"nobody on the list of trust is known to rent out {name}{_others(machine)}{_regions(marks)}"


def _others(machine: Machine) -> str:
    cheapest = sorted(machine.quotes, key=lambda who: (machine.quotes[who], who))[:USUAL]
    return f"; {', '.join(cheapest)} do" if cheapest else "; no price of it names a provider"


def _regions(marks: tuple[str, ...]) -> str:
    asked = any(mark.startswith(REGION) for mark in marks)
    return "; the region of no offer is known, so region:NAME lets nothing in" if asked else ""


def _attested(machine: Machine) -> Admitted | str:
    """What running there costs more was never measured."""
    if machine.hardware.attestation is not None:
        return Admitted(machine.usd_per_hour, None)
    return (
        f"no trusted execution environment of {machine.hardware.device.name} is known (the catalogue knows "
        "none): describe your own in a device file with attestation, or require trusted"
    )
