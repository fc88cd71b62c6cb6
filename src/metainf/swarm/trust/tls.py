"""gRPC over TLS in which both sides prove who they are.

Certificates sign themselves, so whom to trust is a list: a client trusts the one certificate that a node has
announced; a node trusts those that the directory holds at the moment of the handshake.
"""

from collections.abc import Callable
from typing import Any

from metainf.domain import MissingExtra
from metainf.swarm.compute.codec import MOST_BYTES
from metainf.swarm.trust.certificates import Certified, owner_of, pem_of
from metainf.swarm.trust.signing import Refused

OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MOST_BYTES + 2**20),
    ("grpc.max_send_message_length", MOST_BYTES + 2**20),
    ("grpc.so_reuseport", 0),  # else two nodes could take the same port, and each would get some of the calls
]


def grpc() -> Any:
    """The library. Raises MissingExtra."""
    try:
        import grpc
        import grpc.aio
    except ImportError:
        raise MissingExtra("speaking with other nodes", "swarm") from None
    return grpc


def serving(certified: Certified, trusted: Callable[[], bytes]) -> Any:
    """Credentials of a node; `trusted` gives, at each handshake, the PEM certificates that may connect."""
    library = grpc()
    pair = [(certified.key_pem, certified.pem)]
    told = trusted() or certified.pem

    def fresh(pems: bytes) -> Any:
        return library.ssl_server_certificate_configuration(pair, pems)

    def now() -> Any:
        """None where nothing has changed. The library replaces its configuration without a lock: done at each
        handshake, a hundred connections at once end the process."""
        nonlocal told
        pems = trusted() or certified.pem
        if pems == told:
            return None
        told = pems
        return fresh(pems)

    return library.dynamic_ssl_server_credentials(fresh(told), now, require_client_authentication=True)


def channel(address: str, node: str, certificate: bytes, mine: Certified) -> Any:
    """A channel to one node, which must hold the key of that certificate (DER)."""
    library = grpc()
    credentials = library.ssl_channel_credentials(pem_of(certificate), mine.key_pem, mine.pem)
    options = [*OPTIONS, ("grpc.ssl_target_name_override", node)]
    return library.aio.secure_channel(address, credentials, options=options)


def peer_of(context: Any) -> str:
    """The node id of who called. Raises Refused for a certificate that no identity vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    pems = context.auth_context().get("x509_pem_cert", [])
    if not pems:
        raise Refused("expected a certificate, found none")
    der = x509.load_pem_x509_certificate(pems[0]).public_bytes(serialization.Encoding.DER)
    return owner_of(der)
