"""What `accelerate` did, module by module."""

from dataclasses import dataclass, field

from skelkern.dropin.proof import Proof


@dataclass(frozen=True)
class Entry:
    """One candidate.

    Attributes:
        name: of the module within the model; "" is the model itself.
        kind: the module's class.
        source: what it was recognised as.
        reason: why it was left as it is; empty where it was replaced.
        proof: the errors that were found, where it was replaced.
    """

    name: str
    kind: str
    source: str
    reason: str = ""
    proof: Proof | None = None


@dataclass(frozen=True)
class Report:
    """All candidates of a model, in the order of its modules."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def replaced(self) -> list[Entry]:
        """The candidates that run on the library now."""
        return [entry for entry in self.entries if not entry.reason]

    @property
    def left(self) -> list[Entry]:
        """The candidates that were left as they are."""
        return [entry for entry in self.entries if entry.reason]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} of {len(self.entries)} candidates replaced"]
        for entry in self.entries:
            where = f"  {entry.name or '(the model)'}: {entry.kind}, {entry.source}"
            if entry.reason:
                lines.append(f"{where}: left, {entry.reason}")
            elif entry.proof is not None:
                proof = entry.proof
                lines.append(
                    f"{where}: replaced (errors: output {proof.output_error:.1e} of {proof.output_allowed:.1e}, "
                    f"gradient {proof.gradient_error:.1e} of {proof.gradient_allowed:.1e})"
                )
        return "\n".join(lines)
