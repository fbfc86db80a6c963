"""Proof of content: what one snapshot of a database holds, in a form that can be compared.

`take` reads a database, `compare` says in sentences how two proofs differ.
"""

from pgtasks.proof.compare import Comparison, compare
from pgtasks.proof.model import Proof, SequenceProof, TableProof, Unproven
from pgtasks.proof.take import take

__all__ = ["Comparison", "Proof", "SequenceProof", "TableProof", "Unproven", "compare", "take"]
