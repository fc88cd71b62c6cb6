"""Which nodes a caller lets into its routes, and what is refused before one is sought."""

from dataclasses import dataclass, field

from metainf.domain import BadInput, NotSupported
from metainf.swarm.host.book import Book
from metainf.swarm.net.directory import Directory
from metainf.swarm.privacy.attestation import Attestation, Refusing
from metainf.swarm.privacy.measured import refusal
from metainf.swarm.privacy.words import Required
from metainf.swarm.trust.signing import Heard


@dataclass(frozen=True)
class Guard:
    """A requirement and who verifies hardware evidence. Raises NotSupported for what no swarm can give."""

    required: Required = field(default_factory=Required)
    attestation: Attestation = field(default_factory=Refusing)

    def __post_init__(self) -> None:
        if self.required.privacy == "encrypted-head":
            raise NotSupported(refusal())
        if self.required.privacy == "attested" and isinstance(self.attestation, Refusing):
            raise NotSupported(
                "privacy: no verifier of hardware evidence is shipped, so no node counts as attested: give "
                "one (metainf.swarm.privacy.attestation), or require the class trusted"
            )

    def admits(self, heard: Heard) -> bool:
        """Whether a node may be on a route."""
        if self.required.privacy == "attested":
            try:
                self.attestation.verify(heard.word, heard.certificate)
            except (NotSupported, BadInput):
                return False
        return self.required.admits(heard.word)

    def book(self, directory: Directory) -> "Admitted":
        """The directory without the nodes that are left out: they are neither asked nor knocked at."""
        return Admitted(directory, self)


class Admitted(Book):
    """A book that shows only nodes which a guard admits."""

    def __init__(self, directory: Directory, guard: Guard) -> None:
        super().__init__(directory)
        self.guard, self.left_out = guard, 0

    async def look(self) -> list[Heard]:
        every = await super().look()
        self.heard = [each for each in every if self.guard.admits(each)]
        self.left_out = len(every) - len(self.heard)
        return self.heard

    @property
    def note(self) -> str:
        """A sentence on those that are left out, where there are any."""
        if not self.left_out:
            return ""
        asked = self.guard.required
        told = f" of {', '.join(asked.trust)}" if asked.trust else ""
        return f"; {self.left_out} nodes are left out, which privacy {asked.privacy}{told} does not admit"
