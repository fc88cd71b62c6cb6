"""Evidence that a node runs known code in a trusted execution environment: a seam, and what refuses.

No vendor's evidence is read here. Whoever has such hardware gives a verifier of their own; it must bind the
evidence to the node's announced certificate, or another machine could answer in its place.
"""

from typing import Protocol

from metainf.domain import NotSupported
from metainf.swarm.words import Announcement


class Attestation(Protocol):
    """A verifier of evidence."""

    def verify(self, word: Announcement, certificate: bytes) -> None:
        """Return only where fresh evidence was checked against the vendor's roots, names an accepted
        measurement, and holds the hash of `certificate` (DER), which the node uses for TLS.

        Raises NotSupported or BadInput for everything else.
        """


class Refusing:
    """The verifier there is without one: it believes nobody."""

    def verify(self, word: Announcement, certificate: bytes) -> None:
        """Raises NotSupported, always."""
        raise NotSupported(
            f"expected verified evidence of a trusted execution environment of {word.node[:11]}, found no "
            "verifier: give one (metainf.swarm.privacy.attestation), or require the class trusted"
        )
