"""Where nodes announce themselves: a seam with an address book in NATS as the default.

A directory is not trusted: what it holds is signed, and whoever reads checks it. A record vanishes when its
time is up, so that a node that died leaves no ghost.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from metainf.domain import MetaInfError, MissingExtra
from metainf.swarm.trust.certificates import owner_of, pem_of
from metainf.swarm.trust.signing import Heard, Refused, unseal

LIFETIME_S, REFRESH_S = 15.0, 3.0
BUCKET, NODES, GUESTS = "metainf-swarm", "node.", "guest."
MOST_RECORDS = 10_000


class DirectoryLost(MetaInfError):
    """The directory does not answer."""


class Directory(Protocol):
    """Records of bytes by key; each must be put again before its lifetime is over."""

    async def put(self, key: str, record: bytes) -> None: ...

    async def remove(self, key: str) -> None: ...

    async def records(self) -> Mapping[str, bytes]: ...

    async def close(self) -> None: ...


class NatsDirectory:
    """A key-value bucket of NATS JetStream, whose entries expire by themselves."""

    def __init__(self, connection: Any, bucket: Any) -> None:
        self._connection, self._bucket = connection, bucket

    @classmethod
    async def join(cls, url: str, lifetime_s: float = LIFETIME_S) -> "NatsDirectory":
        """Connect, and make the bucket where it is not there. Raises DirectoryLost and MissingExtra."""
        try:
            import nats
            from nats.errors import Error
            from nats.js.api import KeyValueConfig, StorageType
        except ImportError:
            raise MissingExtra("the directory of the swarm", "swarm") from None
        try:
            connection = await nats.connect(url, max_reconnect_attempts=5, connect_timeout=5)
            stream = connection.jetstream()
            config = KeyValueConfig(bucket=BUCKET, ttl=lifetime_s, history=1, storage=StorageType.MEMORY)
            return cls(connection, await stream.create_key_value(config))
        except (TimeoutError, Error, OSError) as error:
            raise DirectoryLost(f"expected a NATS server with JetStream at {url}: {error}") from None

    async def put(self, key: str, record: bytes) -> None:
        await self._asked(self._bucket.put(key, record))

    async def remove(self, key: str) -> None:
        await self._asked(self._bucket.delete(key))

    async def records(self) -> Mapping[str, bytes]:
        from nats.js.errors import KeyNotFoundError, NoKeysError

        try:
            keys = await self._bucket.keys()
        except NoKeysError:
            return {}
        except Exception as error:
            raise DirectoryLost(f"the directory does not answer: {error}") from None
        found = {}
        for key in keys[:MOST_RECORDS]:
            try:
                found[key] = (await self._bucket.get(key)).value or b""
            except KeyNotFoundError:
                continue
            except Exception as error:
                raise DirectoryLost(f"the directory does not answer: {error}") from None
        return found

    async def close(self) -> None:
        await self._connection.close()

    async def _asked(self, waiting: Any) -> None:
        try:
            await waiting
        except Exception as error:  # many kinds: timeouts, no responders, closed connections
            raise DirectoryLost(f"the directory does not answer: {error!r}") from None


def nodes(records: Mapping[str, bytes], now_s: float) -> list[Heard]:
    """The announcements among the records that are to be believed; each under its own node's key, and with a
    certificate that this node vouches for."""
    found = []
    for key, record in records.items():
        if key.startswith(NODES):
            try:
                heard = unseal(record, now_s)
                if key == f"{NODES}{heard.word.node}" and owner_of(heard.certificate) == heard.word.node:
                    found.append(heard)
            except Refused:
                continue
    return found


def trusted(records: Mapping[str, bytes], now_s: float) -> bytes:
    """PEM certificates of the nodes and guests among the records that are to be believed."""
    pems = [pem_of(heard.certificate) for heard in nodes(records, now_s)]
    for key, record in records.items():
        if key.startswith(GUESTS):
            try:
                if key == f"{GUESTS}{owner_of(record)}":
                    pems.append(pem_of(record))
            except Refused:
                continue
    return b"".join(pems)
