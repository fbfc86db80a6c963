"""Copies: a database built beside the target from a snapshot of the source, proven, swapped in.

options   the options of the command line
part/     the part of a database that a copy takes
mask/     what is read in place of the values of a column
rows/     the rows of tables, and their indexes
clone/    clones: copies by the server, to go back to
survey    collect everything that a copy needs, and make the plan
merge     the plan of a copy made of two databases
plan      the plan: what is read, built and replaced
hosts     the host that source and target share, if they do
schema    the commands of pg_dump and pg_restore, and their lists
snapshot  the snapshot of the source, checked against rewrites
load      load the side database
broken    name the constraint that rows break, or their table, and a way on
loaded    what was loaded, and how long its steps took
template  let the server copy the files of the source
delta     let the server copy the files of the target, copy the tables that differ
way       the way of a copy: rows, or one of these two
prove     compare the side database with the snapshot
arrive    run the files of the project on the copy
build     create, load and prove the side database
perform   run all steps in order
outcome   the result
"""

from __future__ import annotations

from pgtasks.copy.options import CopyOptions
from pgtasks.copy.outcome import Copied
from pgtasks.copy.part.scope import Scope, scope_of
from pgtasks.copy.perform import copy

__all__ = ["Copied", "CopyOptions", "Scope", "copy", "scope_of"]
