"""Compare two proofs: differences in sentences, and what could not be compared."""

from __future__ import annotations

from dataclasses import dataclass

from pgtasks.proof.model import Proof


@dataclass(frozen=True)
class Comparison:
    """How two proofs differ. `skipped` names what was not compared, and why."""

    differences: tuple[str, ...]
    skipped: tuple[str, ...]
    tables: int
    identical_tables: int
    rows: int

    @property
    def identical(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.differences

    def __str__(self) -> str:
        raise NotImplementedError


def compare(expected: Proof, actual: Proof, *, access: bool = True) -> Comparison:
    """Compare what a database should hold with what it holds.

    Expressions (defaults, checks, views, ...) are compared only within one major version, because
    servers print them differently; `access=False` leaves out owners and privileges (a restore
    with --no-owner). Tables that `expected` names as unproven are not compared.
    """
    raise NotImplementedError
