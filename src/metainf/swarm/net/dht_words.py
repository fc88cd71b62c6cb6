"""The words of the hash table: its addresses, and what a member and its program say to each other.

The program (`dht_member`) is a process of its own that runs the library hivemind. Its input and output are
lines of JSON; nothing in them is ever executed or unpickled.
"""

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from pydantic import Field, NonNegativeFloat, PositiveFloat

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.net.records import LIFETIME_S

SHARDS = 16
"""Keys of the hash table over which the records are spread; each is kept by other members."""
MOST_OF_SHARD = 1500
"""Records under one of these keys; a member refuses more, so that its answers stay below 4 MiB."""
READ_BYTES_PER_S, READ_S = 512 * 1024, 1.0
PEER = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,80}")
MOST_LINE = 64 * 2**20
OPTIONS = frozenset({"listen", "identity", "relay"})


class Membership(Frozen):
    """How to be a member: who is asked first (libp2p multiaddresses; none begins a new table), where one
    listens, whether one keeps records for others (`stays`)."""

    peers: tuple[str, ...] = ()
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    stays: bool = True
    relay: bool = False
    identity: str | None = None
    signed: bool = True
    lifetime_s: PositiveFloat = LIFETIME_S


class Ask(Frozen):
    """From a member to its program: keep a record (base64) until an instant (seconds since the epoch)."""

    number: int
    key: str
    record: str
    until_s: float


class Kept(Frozen):
    """A record (base64) and until when it is good."""

    record: str
    until_s: float


class Told(Frozen):
    """From the program to the member. `ready` comes once; an `answer` has the number of what was asked; a
    `round` has what is new since the last one."""

    kind: Literal["ready", "answer", "round", "failed"]
    number: int = 0
    good: bool = True
    why: str = ""
    peers: tuple[str, ...] = ()
    join: str = ""
    new: Mapping[str, Kept] = Field(default_factory=dict)
    took_s: NonNegativeFloat = 0.0


def packed(record: bytes) -> str:
    """Bytes for a line."""
    return base64.b64encode(record).decode()


def unpacked(text: str) -> bytes:
    """Bytes of a line. Raises BadInput."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadInput(f"expected base64, found {text[:40]!r}: {error}") from None


def shard_of(key: str) -> int:
    """Under which of the `SHARDS` keys a record lies."""
    return hashlib.blake2b(key.encode(), digest_size=2).digest()[0] % SHARDS


def pause_s(read_bytes: int) -> float:
    """Seconds between two readings: a member spends at most `READ_BYTES_PER_S` on them."""
    return max(READ_S, read_bytes / READ_BYTES_PER_S)


def membership(url: str, stays: bool = True, lifetime_s: float = LIFETIME_S) -> Membership:
    """From `dht://HOST:PORT` (a new table), `dht://HOST:PORT/PEER[,HOST:PORT/PEER…]` or multiaddresses
    `/ip4/…/tcp/…/p2p/PEER[,…]`, with `?listen=HOST:PORT&identity=FILE&relay=yes`. Raises BadInput."""
    places, _, query = url.removeprefix("dht://").partition("?")
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    if unknown := set(asked) - OPTIONS:
        raise BadInput(f"expected options of {sorted(OPTIONS)}, found {sorted(unknown)}")
    told: dict[str, Any] = {"stays": stays, "lifetime_s": lifetime_s, "identity": asked.get("identity")}
    told["relay"] = asked.get("relay") == "yes"
    if places and "/" not in places:
        host, port = _place(places)
        return Membership(host=host, port=port, **told)
    peers = tuple(_multiaddress(each) for each in places.split(",") if each)
    near = bool(peers) and all(each.split("/")[2].startswith("127.") for each in peers)
    listen = asked.get("listen") or ("127.0.0.1:0" if near else "0.0.0.0:0")
    host, port = _place(listen)
    return Membership(peers=peers, host=host, port=port, **told)


def address_of(multiaddress: str) -> str:
    """A multiaddress of TCP as `HOST:PORT/PEER`."""
    _, _, host, _, port, _, peer = multiaddress.split("/")
    return f"{host}:{port}/{peer}"


def _place(text: str) -> tuple[str, int]:
    host, mark, port = text.rpartition(":")
    if not mark or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"expected HOST:PORT, found {text[:80]!r}")
    return host or "0.0.0.0", int(port)


def _multiaddress(text: str) -> str:
    if text.startswith("/"):
        parts = text.split("/")
        if len(parts) != 7 or parts[3] != "tcp" or parts[5] != "p2p" or not PEER.fullmatch(parts[6]):
            raise BadInput(f"expected /ip4/HOST/tcp/PORT/p2p/PEER, found {text[:120]!r}")
        return text
    place, mark, peer = text.partition("/")
    if not mark or not PEER.fullmatch(peer):
        raise BadInput(f"expected HOST:PORT/PEER with the peer's libp2p name, found {text[:120]!r}")
    host, port = _place(place)
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns4"
    return f"/{kind}/{host}/tcp/{port}/p2p/{peer}"
