"""Where nodes announce themselves, by URL: NATS, or a distributed hash table of all members."""

from metainf.domain import BadInput
from metainf.swarm.net.bucket import NatsDirectory
from metainf.swarm.net.dht import HivemindDirectory
from metainf.swarm.net.records import (
    GUESTS,
    LIFETIME_S,
    MOST_RECORDS,
    NODES,
    REFRESH_S,
    Directory,
    DirectoryLost,
    nodes,
    trusted,
)
from metainf.swarm.net.servers import BUCKET
from metainf.swarm.trust.identity import Identity

__all__ = [
    "BUCKET",
    "GUESTS",
    "LIFETIME_S",
    "MOST_RECORDS",
    "NODES",
    "REFRESH_S",
    "Directory",
    "DirectoryLost",
    "HivemindDirectory",
    "NatsDirectory",
    "joined",
    "nodes",
    "trusted",
]


async def joined(url: str, identity: Identity | None = None, stays: bool = True) -> Directory:
    """The directory at a URL, as one of its members.

    `nats://HOST:PORT` and `tls://HOST:PORT` are a NATS server; `dht://HOST:PORT/PEER` and multiaddresses
    that begin with `/`, separated by commas, are members of a hash table, `dht://HOST:PORT` begins a new one
    there. In a hash table, what `identity` removes is gone at once, and a member that does not stay (a
    client) keeps nothing for others. Raises BadInput, DirectoryLost and MissingExtra.
    """
    if url.startswith(("nats://", "tls://")):
        return await NatsDirectory.join(url)
    if url.startswith(("dht://", "/")):
        return await HivemindDirectory.join(url, identity, stays=stays)
    raise BadInput(f"expected nats://, tls:// or dht:// and an address, or /ip4/…, found {url[:80]!r}")
