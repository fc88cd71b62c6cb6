"""Prompts made anew for each run on a server that keeps what earlier runs left in its cache. Pure."""

import hashlib
from dataclasses import replace

from metainf.measure.prose import joined, opening
from metainf.measure.words import Request, Traffic

OPENINGS = 10_000


def salted(traffic: Traffic, salt: str) -> Traffic:
    """The traffic with two words and a full stop before each timed and warming prompt.

    The same salt gives the same words, another one others, so that no prompt begins as it did in another run.
    Prompts that begin alike still do: the words depend on the salt and a prompt's first word only. All get
    equally longer.
    """
    return replace(
        traffic,
        requests=tuple(_with_opening(request, salt) for request in traffic.requests),
        warming=tuple(_with_opening(request, salt) for request in traffic.warming),
    )


def _with_opening(request: Request, salt: str) -> Request:
    first = request.prompt.split(maxsplit=1)[:1]
    digest = hashlib.blake2b(repr((salt, first)).encode(), digest_size=8).digest()
    words = joined(opening(int.from_bytes(digest, "big") % OPENINGS))
    return replace(request, prompt=f"{words} {request.prompt}")
