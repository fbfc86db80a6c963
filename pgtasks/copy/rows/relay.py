"""Rows of a large table from one psql to another on the host that both servers are on.

The psql of the target reads a script of ours and the rows from its stdin, which it never takes for
commands. It commits only if the other psql has said that all rows were sent.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.rows import tables
from pgtasks.copy.rows.tables import TableCopy
from pgtasks.errors import Failed
from pgtasks.host import tools
from pgtasks.host.base import Command, Host
from pgtasks.host.pipeline import Pipeline
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.reader import SNAPSHOT

_SLICE = 0.2  # seconds of one wait, between looks at the end of the copy
_MOST = 1 << 16  # bytes of what both psql print
# $1 and $2 are the scripts of the source and of the target
_PIPED = """\
export PGTASKS_SENT="$1.sent"
{{ {source} -f "$1"; echo $? > "$PGTASKS_SENT"; }} | {target} -f "$2"
taken=$?
read -r sent 2>/dev/null < "$PGTASKS_SENT" || sent=1
rm -f "$PGTASKS_SENT"
[ "$sent" = 0 ] && [ "$taken" = 0 ]
"""
_COMMITTING = """\
\\set sent `cat "$PGTASKS_SENT"`
SELECT :'sent' = '0' AS whole \\gset
\\if :whole
COMMIT;
\\endif
"""


@dataclass(frozen=True)
class Relay:
    """The two psql on a host, for the tables of one snapshot of the source."""

    plan: CopyPlan
    host: Host
    psql: str
    snapshot: str

    def takes(self, table: TableCopy) -> bool:
        """Return whether a table can go this way.

        \\copy takes its names in one line. The key of masks stays in sessions of this machine, and
        a condition might mean something to psql.
        """
        is_plain = not (table.relation.expressions or table.relation.condition)
        names = (*tables.place(table), *table.columns)
        return (
            is_plain
            and table.relation.bytes > tables.SMALL
            and all(name.isprintable() for name in names)
        )

    def copy(self, table: TableCopy, quoting: Connection, is_over: Callable[[], bool]) -> int:
        """Copy the rows of a table in a transaction of its own, and return their number.

        `quoting` is any session of the target, `is_over` says whether the copy is given up.
        """
        plan, host = self.plan, self.host
        with (
            host.lend(self._sending(table, quoting).encode()) as sending,
            host.lend(self._taking(table, quoting).encode()) as taking,
            host.passfile(plan.source) as source_passfile,
            host.passfile(plan.loading) as target_passfile,
            host.lend(self._script(source_passfile, target_passfile).encode()) as script,
        ):
            printed = self._run(Command(("/bin/sh", script, sending, taking)), is_over)
        counts = re.findall(r"^COPY (\d+)$", printed, re.MULTILINE)
        if len(counts) != 1 or not printed.rstrip().endswith("\nCOMMIT"):
            raise Failed("psql did not say that it has committed all rows")
        return int(counts[0])

    def _run(self, command: Command, is_over: Callable[[], bool]) -> str:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as printed:
            try:
                running = Pipeline(self.host, [command], stdout=writer)
            finally:
                os.close(writer)
            with running:
                while not running.wait(_SLICE):
                    if is_over():
                        raise Failed("the copy was ended")
                try:
                    running.check()
                except Failed as exc:
                    raise _explained(exc) from None
                return printed.read(_MOST).decode(errors="replace")

    def _script(self, source_passfile: str, target_passfile: str) -> str:
        plan, view = self.plan, self.host.view
        reading = tools.environment(view(plan.source), source_passfile, read_only=True)
        reading["PGOPTIONS"] += connection.of_programs(plan.source)
        writing = tools.environment(view(plan.loading), target_passfile)
        return _PIPED.format(
            source=self._command(reading),
            target=self._command(plan.load.command((), writing).env),
        )

    def _command(self, env: Mapping[str, str]) -> str:
        encoding = "SQL_ASCII" if self.plan.origin.encoding == "SQL_ASCII" else "UTF8"
        given = {**env, "PGCLIENTENCODING": encoding}
        variables = [f"{key}={shlex.quote(value)}" for key, value in given.items()]
        argv = (self.psql, "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1")
        return f"{' '.join(variables)} {shlex.join(argv)}"

    def _sending(self, table: TableCopy, quoting: Connection) -> str:
        """Return the script of the source: it prints nothing but the rows."""
        out = tables.out_statement(table).as_string(quoting)
        name = sql.Literal(self.snapshot).as_string(quoting)
        lines = [
            f"\\set QUIET on\n{tables.reading_settings()};",
            f"{SNAPSHOT};\nSET TRANSACTION SNAPSHOT {name};\n{out};",
        ]
        return "\n".join(lines) + "\n"

    def _taking(self, table: TableCopy, quoting: Connection) -> str:
        """Return the script of the target."""
        role = self.plan.loading.role or self.plan.load.owner
        lines = [f"\\set QUIET on\n{tables.writing_settings()};"]
        if role:
            lines.append(sql.SQL("SET ROLE {};").format(sql.Identifier(role)).as_string(quoting))
        lines += ["\\set QUIET off", "BEGIN;"]
        if truncate := tables.truncate_statement([table]):
            lines.append(f"{truncate.as_string(quoting)};")
        into = tables.in_statement(table, stdin="pstdin").as_string(quoting)
        lines.append(f"\\copy {into.removeprefix('COPY ')}")
        return "\n".join([*lines, _COMMITTING])


def _explained(exc: Failed) -> Failed:
    """Return the error with the first error of a psql as its message."""
    said = re.search(r"^psql:.*?((?:ERROR|FATAL|error): .*)$", exc.hint or "", re.MULTILINE)
    return Failed(f"psql on the host: {said[1]}", hint=exc.hint) if said else exc
