"""Proof of content: what one snapshot of a database holds, in a form that can be compared.

`take` reads a database, `compare` says in sentences how two proofs differ.
"""

from pgtasks.server.proof.compare import Comparison, compare
from pgtasks.server.proof.model import Proof, SequenceProof, TableProof, Unproven
from pgtasks.server.proof.take import take

__all__ = ["Comparison", "Proof", "SequenceProof", "TableProof", "Unproven", "compare", "take"]
