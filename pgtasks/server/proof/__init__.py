"""The proof: the content of a database in one snapshot, in a form that can be compared.

take         take the proof of a database now, or in an exported snapshot
scope        the relations of a snapshot that a proof covers
naming       find the objects that names refer to, in a snapshot and now
fingerprint  the SQL that counts and fingerprints tables
early        read tables while a load builds their indexes
within       take a proof in the open transaction of a session
reader       parallel sessions in one snapshot
model        the content of a proof, and its JSON
toc          the table of contents of an archive of pg_dump
entries      record and compare entries of an archive
compare      compare two proofs
difference   differences by name, and their acceptance
"""

from pgtasks.server.proof.compare import Comparison, compare, joined
from pgtasks.server.proof.model import Proof, SequenceProof, TableProof, Unproven
from pgtasks.server.proof.take import take

__all__ = [
    "Comparison",
    "Proof",
    "SequenceProof",
    "TableProof",
    "Unproven",
    "compare",
    "joined",
    "take",
]
