"""Where NATS servers are, how a connection to them is opened, and what others on the way could read."""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from metainf.domain import BadInput

BUCKET = "metainf-swarm"
OPTIONS = frozenset({"ca", "cert", "key", "creds", "bucket"})
CLUSTER = 3
"""So many servers of a cluster keep what is to outlive one of them."""


@dataclass(frozen=True)
class Servers:
    """Where NATS is, and how to prove who one is there."""

    urls: tuple[str, ...]
    bucket: str = BUCKET
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> "Servers":
        """`nats://[USER:PASSWORD@|TOKEN@]HOST:PORT[,…][?ca=FILE&cert=FILE&key=FILE&creds=FILE&bucket=NAME]`;
        with `tls://`, or `ca` or `cert`, it is TLS or nothing. Raises BadInput."""
        urls, asked = [], {}
        for each in url.split(","):
            parts = urlsplit(each if "://" in each else f"nats://{each}")
            if parts.scheme not in ("nats", "tls") or not parts.hostname:
                raise BadInput(f"expected nats://HOST:PORT or tls://HOST:PORT, found {shown(each)!r}")
            asked.update({name: values[-1] for name, values in parse_qs(parts.query).items()})
            urls.append(urlunsplit((parts.scheme, parts.netloc, "", "", "")))
        if unknown := set(asked) - OPTIONS:
            raise BadInput(f"expected options of {sorted(OPTIONS)}, found {sorted(unknown)}")
        return cls(tuple(urls), asked.pop("bucket", BUCKET), asked)

    @property
    def replicas(self) -> int:
        """How many servers keep each stream: three where that many are named, else one."""
        return CLUSTER if len(self.urls) >= CLUSTER else 1

    @property
    def secure(self) -> bool:
        """Whether nothing is said to them but over TLS."""
        return bool(self.files.keys() & {"ca", "cert"}) or any(each.startswith("tls:") for each in self.urls)

    @property
    def exposed(self) -> tuple[str, ...]:
        """The hosts beyond this machine to which all is said in the open."""
        hosts = [urlsplit(each).hostname or "" for each in self.urls]
        return () if self.secure else tuple(each for each in hosts if not _of_this_machine(each))

    def options(self) -> dict[str, Any]:
        """What the library is told beside the addresses. Raises BadInput for files that are not there."""
        told: dict[str, Any] = {}
        if "creds" in self.files:
            told["user_credentials"] = self.files["creds"]
        if self.secure:
            try:
                context = ssl.create_default_context(cafile=self.files.get("ca"))
                if "cert" in self.files:
                    context.load_cert_chain(self.files["cert"], self.files.get("key"))
            except OSError as error:  # ssl.SSLError too
                raise BadInput(f"the certificates for NATS cannot be read: {error}") from None
            told["tls"] = context
        return told


def shown(url: str) -> str:
    """A URL without its password or token, for messages."""
    scheme, mark, rest = url.partition("://")
    secret, at, place = rest.rpartition("@")
    return f"{scheme}{mark}***@{place}" if secret and at else url


async def opened(servers: Servers, **options: Any) -> Any:
    """A connection of the library `nats`, with these options of its own. Where TLS was asked for, a server
    that offers none (or another that says so on the way) hears neither password nor anything else. Raises
    what the library raises, BadInput, ImportError without it."""
    from nats.aio.client import Client
    from nats.errors import Error

    class Insisting(Client):
        def _connect_command(self) -> bytes:  # what is said first, after TLS where there is some
            if servers.secure and not self._server_info.get("tls_required"):
                raise Error("expected TLS, found a server that offers none")
            said: bytes = super()._connect_command()
            return said

    made = Insisting()
    await made.connect(list(servers.urls), **options, **servers.options())
    return made


def in_the_open(*urls: str | None) -> str | None:
    """A word of warning about NATS servers beyond this machine to which all is said without TLS; None where
    there are none. What is no address of NATS is passed over."""
    found: set[str] = set()
    for url in urls:
        if url is not None and not url.startswith(("dht://", "/")):
            try:
                found.update(Servers.parse(url).exposed)
            except BadInput:  # said where it is joined
                continue
    if not found:
        return None
    return (
        f"NATS at {', '.join(sorted(found))} is spoken to without TLS: whoever is on the way reads and "
        "changes what is said; use tls://HOST:PORT, with ?ca=FILE for an authority of your own"
    )


def _of_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
