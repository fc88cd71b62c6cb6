"""Options that make a class of privacy a constraint, and how its price looks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from metainf.cli.names import one_of

if TYPE_CHECKING:
    from metainf.domain import Candidate, ClientPart, PrivacyAsked, Selection

CLASSES = ("transport", "trusted", "split", "attested", "encrypted-head")
"""Repeated from `domain.privacy`, which costs more to load than a help text may (a test compares them)."""
Privacy = Annotated[
    str | None,
    typer.Option(
        help=f"Only answers that keep to a class of privacy, with its price: {', '.join(CLASSES)}.",
        autocompletion=one_of(*CLASSES),
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(help="With trusted: provider:NAME, region:NAME or own (hardware of your own); repeatable."),
]
Keep = Annotated[int | None, typer.Option(min=1, help="With split: blocks that the client runs itself.")]
ClientHardware = Annotated[
    str | None, typer.Option(help="With split: the client's machine, such as apple-m2 or mine.toml.")
]
ClientRtt = Annotated[
    float | None, typer.Option(help="With split: milliseconds of a round trip to the server; 30 by default.")
]
ClientRate = Annotated[
    float | None,
    typer.Option(help="With split: Mbit/s of the client's line, each direction; 100 by default."),
]
OF_SPLIT = ("keep", "client_hardware", "client_rtt_ms", "client_mbit_s")


def asked(privacy: str | None, given: Mapping[str, object]) -> "PrivacyAsked | None":
    """What the options say, None where no class is asked for. Raises BadInput."""
    from metainf.domain import BadInput, PrivacyAsked, UnknownName

    stated = {name: value for name, value in given.items() if value not in (None, [], ())}
    if privacy is not None and privacy not in CLASSES:
        raise UnknownName("class of privacy", privacy, CLASSES)
    for name in stated:
        needs = "split" if name in OF_SPLIT else "trusted"
        if privacy != needs:
            option = name.replace("_", "-")
            raise BadInput(f"--{option} counts only with --privacy {needs}, found {privacy or 'no class'}")
    return None if privacy is None else PrivacyAsked.of({"privacy": privacy, **stated})


def told(found: "Selection") -> list[str]:
    """The class of a selection in sentences."""
    of = found.privacy
    if of is None:
        return []
    read = "no attack was measured"
    if of.recovery is not None:
        read = f"an attack read back up to {of.recovery:.0%} of a prompt's tokens"
    said = "may be called private" if of.private else "not to be called private"
    trust = f" of {', '.join(of.trust)}" if of.trust else f", {of.keep} blocks" if of.keep else ""
    lines = [f"{of.name}{trust}: {said}, {read}", f"protects {of.protects}", f"exposes {of.exposes}"]
    return lines if of.client is None else [*lines, _client(of.client)]


def _client(part: "ClientPart") -> str:
    own_ms, line_ms = part.seconds_per_token * 1e3, part.line_seconds_per_token * 1e3
    return (
        f"the client ({part.hardware}) does {part.share:.0%} of a token's work in {own_ms:.3g} ms and holds "
        f"{part.memory_gib:.3g} GiB; its line adds {line_ms:.3g} ms a token and "
        f"{part.line_seconds_to_first_token:.3g} s before the first (round trip {part.rtt_ms:g} ms, "
        f"{part.mbit_s:g} Mbit/s)"
    )


def price(one: "Candidate") -> str | None:
    """What the class costs in one answer."""
    if one.privacy is None:
        return None
    ratio = one.privacy.privacy_price_ratio
    whose = f" ({one.privacy.provider})" if one.privacy.provider else ""
    return f"{'not known' if ratio is None else f'{ratio:.2f}×'}{whose}"
