"""Copies: a database built beside the target from a snapshot of the source, proven, swapped in.

options   the options of the command line
scope     the part of a database that flags ask for
part      the part that a copy takes of a source
subset    the rows that --where and --sample choose, and all that they need
graph     which tables of a subset lead to which
closure   the SQL that chooses the rows of a subset
conditions  the conditions of --where
shape     the tables of a database with columns, sequences, checks and keys
fits      rows of one database that have no place in the schema of another
carry     a copy made of two databases: what comes from which
merge     its plan
names     the tables that flags name
keys      the foreign keys of a database
foreign   code of plain roles that a query would run
expressions  the names that an expression uses, and the functions behind them
survey    collect everything that a copy needs, and make the plan
plan      the plan: what is read, built and replaced
mask/     what is read in place of the values of a column
schema    the commands of pg_dump and pg_restore, and their lists
snapshot  the snapshot of the source, checked against rewrites
tables    how the rows of each table are read and written
indexes   the indexes that are built as soon as their table is in
stream    copy the rows of one table from one session into another
wire      pass them on from socket to socket, unread
wire_socket    a session's socket, and the messages of the protocol that are read
flush     flush the target's WAL, so that those who write rows need not wait
hosts     the host that source and target share, if they do
relay     rows from one psql to another on that host
throttle  a limit of bytes per second
pool      workers that copy tables and build indexes
loaded    what was loaded, and how long its steps took
load      load the side database
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
from pgtasks.copy.perform import copy
from pgtasks.copy.scope import Scope, scope_of

__all__ = ["Copied", "CopyOptions", "Scope", "copy", "scope_of"]
