"""Proof of content: what one snapshot of a database holds, in a form that can be compared.

take         reads a database as it is now, or as an exported snapshot sees it
scope        what there is to prove in a snapshot
naming       what names lead to in a snapshot, and now
fingerprint  the SQL that counts and fingerprints tables
reader       sessions side by side in one snapshot
model        what a proof holds, and its JSON
toc          the table of contents of an archive of pg_dump
entries      what its entries say of a schema
compare      says in sentences how two proofs differ
difference   differences by name, and which of them are accepted
"""

from pgtasks.server.proof.compare import Comparison, compare
from pgtasks.server.proof.model import Proof, SequenceProof, TableProof, Unproven
from pgtasks.server.proof.take import take

__all__ = ["Comparison", "Proof", "SequenceProof", "TableProof", "Unproven", "compare", "take"]
