"""Who a node is: an Ed25519 key, and a name that follows from it."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from metainf.domain import BadInput, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES, PUBLIC_BYTES, SIGNATURE_BYTES = 32, 32, 64


def node_of(public: bytes) -> str:
    """The node id of a public key: `ed-` and its 128-bit BLAKE2b. Nobody else can take that name."""
    return f"ed-{hashlib.blake2b(public, digest_size=16).hexdigest()}"


@dataclass(frozen=True)
class Identity:
    """A private key, as its 32-byte seed. Never printed."""

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise BadInput(f"expected {SEED_BYTES} bytes of a key, found {len(self.seed)}")

    def __repr__(self) -> str:
        return f"Identity({self.node})"

    @cached_property
    def _key(self) -> "Ed25519PrivateKey":
        _need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def node(self) -> str:
        """The node id."""
        return node_of(self.public)

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes."""
        return self._key.sign(message)


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key signed the message. False, never an error, for whatever is no key or signature."""
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def kept(path: Path) -> Identity:
    """The identity in a file, made there on first use and readable by its owner only.

    Raises BadInput where the file is no key or others may read it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(SEED_BYTES))
    mode = path.stat().st_mode & 0o077
    if os.name == "posix" and mode:
        raise BadInput(f"expected {path} to be readable by its owner only: chmod 600 {path}")
    seed = path.read_bytes()
    if len(seed) != SEED_BYTES:
        raise BadInput(
            f"expected a key of {SEED_BYTES} bytes in {path}, found {len(seed)}: move the file away"
        )
    return Identity(seed)


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingExtra("an identity", "swarm") from None
