"""A class of privacy as a constraint of a selection: which offers are left, at which price, and what runs."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metainf import catalog
from metainf.api.catalogue import machines_of
from metainf.domain import (
    BadInput,
    Disaggregation,
    Excluded,
    Guarded,
    Hardware,
    KvQuantization,
    Method,
    Model,
    NotSupported,
    Privacy,
    PrivacyAsked,
    Speculative,
    UnknownName,
    WeightQuantization,
    Workload,
)

if TYPE_CHECKING:
    from metainf.selection.admitting import Admitted
    from metainf.selection.splitting import Split

Check = Callable[[Hardware, Method], Excluded | None]
Command = Callable[[Hardware, Method], str | None]
Notes = Callable[[Hardware, Method], tuple[str, ...]]
WRITES = ("text", "multimodal")
NOT_OF_NODES = (WeightQuantization, KvQuantization, Speculative, Disaggregation)
"""Techniques that nodes which hold blocks do not have."""
DIRECTORY = "nats://DIRECTORY:4222"


@dataclass(frozen=True)
class Guarding:
    """A question's class at work. `hardware` is priced as the class lets it; `reasons` says why some may not
    be chosen, by the id of the hardware."""

    asked: PrivacyAsked | None
    subject: Model
    hardware: "tuple[tuple[Hardware, float | None], ...]"
    admitted: "dict[str, Admitted]"
    reasons: dict[str, str]
    split: "Split | None" = None
    told: Privacy | None = None

    def check(self, check: Check) -> Check:
        """What the class puts out comes before all else."""
        if self.asked is None:
            return check

        def found(hardware: Hardware, method: Method) -> Excluded | None:
            reason = self.reasons.get(hardware.id) or self._not_of_nodes(method)
            if reason is None:
                return check(hardware, method)
            return Excluded(hardware=hardware, method=method, limit="privacy", reason=reason)

        return found

    def _not_of_nodes(self, method: Method) -> str | None:
        if self.split is None:
            return None
        kinds = [each.kind.replace("_", " ") for each in method.techniques if isinstance(each, NOT_OF_NODES)]
        return f"only a swarm's nodes run a split model, and they know no {kinds[0]}" if kinds else None

    def command(self, command: Command) -> Command:
        """A split model runs in a swarm and nowhere else."""
        if self.asked is None or self.split is None:
            return command
        keep, last = self.asked.keep, self.subject.num_layers
        where = f"--join {DIRECTORY} --model {shlex.quote(self.subject.name)}"
        told = (
            f"metainf node {where} --span {keep}:{last}  # server\n"
            f"metainf swarm generate {where} --privacy split --keep {keep} --prompt TEXT  # client"
        )
        return lambda hardware, method: told

    def notes(self, notes: Notes) -> Notes:
        """What to mind of the class, before what to mind of the method."""
        if self.asked is None:
            return notes
        if self.split is None:
            return lambda hardware, method: (*self._note(hardware), *notes(hardware, method))
        told = (
            "the server's speed is predicted as if this engine ran its blocks; the swarm's own engine, which "
            "the command starts, was not measured on this hardware",
            "the price leaves the client's machine out, and each client has one of its own",
        )
        return lambda hardware, method: told

    def _note(self, hardware: Hardware) -> tuple[str, ...]:
        found = self.admitted.get(hardware.id)
        if found is not None and found.provider is not None:
            date = max(quote.date for quote in catalog.quotes(hardware.device.name))
            return (f"the price is that of {found.provider} on {date}, for one device at a time, on demand",)
        if self.asked is not None and self.asked.privacy == "attested":
            return ("whether it proves what it runs is your own word: no verifier of evidence is shipped",)
        return ()

    def guarded(self, hardware: Hardware, factor: float) -> Guarded:
        """What the class makes of one answer whose throughput changes by a factor."""
        assert self.told is not None
        found = self.admitted[hardware.id]
        ratio = None if found.ratio is None else found.ratio / factor
        return Guarded(
            name=self.told.name, private=self.told.private, privacy_price_ratio=ratio, provider=found.provider
        )


def guarding(
    asked: PrivacyAsked | None, given: Sequence[str | Hardware], subject: Model, work: Workload
) -> Guarding:
    """The class at work on the hardware of a question. Raises BadInput, UnknownName, and NotSupported for
    what no hardware can give."""
    from metainf.selection.admitting import Admitted, admit
    from metainf.selection.splitting import split_of

    machines = machines_of(given)
    if asked is None:
        priced = tuple((each.hardware, each.usd_per_hour) for each in machines)
        return Guarding(None, subject, priced, {}, {})
    if asked.privacy == "encrypted-head":
        raise NotSupported(_encrypted(subject))
    _known(asked.trust)
    split = None
    if asked.privacy == "split":
        if subject.modality not in WRITES:
            raise NotSupported(f"only language models are split, and {subject.name} makes {subject.modality}")
        split = split_of(subject, asked, _client(asked), work)
    verdicts = {each.hardware.id: admit(asked, each) for each in machines}
    admitted = {name: found for name, found in verdicts.items() if isinstance(found, Admitted)}
    reasons = {name: found for name, found in verdicts.items() if isinstance(found, str)}
    left = tuple(
        (each.hardware, admitted[each.hardware.id].usd_per_hour if each.hardware.id in admitted else None)
        for each in machines
    )
    return Guarding(asked, subject, left, admitted, reasons, split, _told(asked, split))


def refused_elsewhere(asked: PrivacyAsked | None, what: str) -> None:
    """NotSupported where a class is required of what does not know them."""
    if asked is not None:
        raise NotSupported(f"{what} knows no class of privacy, found {asked.privacy}: ask `select`")


def _known(marks: Sequence[str]) -> None:
    for mark in marks:
        kind, _, name = mark.partition(":")
        if mark == "own" or (kind == "region" and name):
            continue
        if kind != "provider" or not name:
            raise BadInput(
                f"expected provider:NAME, region:NAME or own to trust, found {mark!r}: labels and names of "
                "nodes are for `metainf swarm generate --trust`"
            )
        if name not in catalog.providers():
            known = ", ".join(catalog.providers())
            raise UnknownName("provider", name, catalog.providers()).explained(f"prices are known of {known}")


def _client(asked: PrivacyAsked) -> Hardware:
    given = asked.client_hardware
    if isinstance(given, Hardware):
        return given
    text = given or ""
    if catalog.parse_price(text):
        raise BadInput(f"expected the client's hardware without a price, since it is its own: found {text!r}")
    found = catalog.parse_hardware(text)
    if len(found) != 1:
        raise BadInput(f"expected one machine at the client, found {len(found)} in {text!r}")
    return found[0]


def _told(asked: PrivacyAsked, split: "Split | None") -> Privacy:
    from metainf.swarm.privacy.measured import what

    found = what(asked.privacy, asked.keep or None)
    return Privacy(
        name=found.name, private=found.private, protects=found.protects, exposes=found.exposes,
        recovery=found.recovery, trust=asked.trust, keep=asked.keep, client=split.client if split else None,
    )  # fmt: skip


def _encrypted(subject: Model) -> str:
    """The measured arithmetic, and what it makes of this model."""
    from metainf.swarm.privacy.measured import refusal, table

    heads = table("encrypted")["rows"]
    least = min(row["slowdown"] for row in heads)
    largest = max(heads, key=lambda row: int(row["inputs"]) * int(row["outputs"]))
    told = f"{refusal()}. The predicted price is at least {least:,.0f} times the price in the open"
    weights = subject.active_params_b or subject.params_b
    if weights is None:
        return told
    hours = weights * 1e9 * largest["server_s"] / (largest["inputs"] * largest["outputs"]) / 3600
    return (
        f"{told}; the products alone of a token of {subject.name} would take {hours:,.3g} hours on one core"
    )
