"""The plan of a restore: what is built from what, and what would be lost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.restore.leaving import NOTHING, Left
from pgtasks.backup.restore.rights import Rights
from pgtasks.database.properties import DatabaseFacts, Setting
from pgtasks.database.side import side_name
from pgtasks.host.local import Command, Host
from pgtasks.host.tools import Toolset
from pgtasks.server import catalog, connection, rowcount, session
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.model import LEFT_OUT
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_COUNT_SECONDS = 5.0  # for all counts together; what is not counted by then is estimated


@dataclass(frozen=True)
class Loss:
    """One table's rows now and in the backup, None where the table is not there.

    Those of an `unproven` table are in the backup, and nobody has counted them.
    """

    table: str
    now: int | None
    backup: int | None
    estimated: bool = False
    unproven: bool = False

    @property
    def differs(self) -> bool:
        """Whether a restore changes the number of rows, or may."""
        return self.now != self.backup or self.unproven


@dataclass(frozen=True)
class Plan:
    """All that a restore needs to know, found out before anything is touched.

    `facts` is what the side database gets; `notes` are differences worth a line that stop nothing;
    `reader` is the pg_dump that describes the side database, `major` the server's;
    `login` is the target as a login of the load's own reaches it, where there is one; `withheld`
    are settings of the backup that are not laid, `left` what of the `archive` is left out.
    """

    target: Target
    backup: Backup
    tools: Toolset
    facts: DatabaseFacts
    system: str
    run: str
    replaces: bool
    jobs: int
    rights: Rights
    invalid: bool = False  # an interrupted DROP left the target: the rest of it is dropped
    no_owner: bool = False
    leave_behind: bool = False
    doubt: str = ""  # as the options have it
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    dump: Path = Path()
    accept: tuple[str, ...] = ()
    reader: Toolset | None = None
    major: int = 0
    login: Target | None = None
    withheld: tuple[Setting, ...] = ()
    left: Left = NOTHING
    no_tablespaces: bool = False
    archive: Sequence[Entry] = field(default=(), repr=False)

    def at_hand(self, host: Host) -> bool:
        """Return whether the backup lies where pg_restore runs."""
        return self.backup.host == host

    @property
    def side(self) -> str:
        """Return the name of the side database."""
        return side_name(self.target.database, "new", self.run)

    @property
    def loading(self) -> Target:
        """Return the side database as the sessions of the load reach it."""
        return replace((self.login or self.target).at(self.side), role=self.rights.role)

    @property
    def proving(self) -> Target:
        """Return the side database as the sessions that read it for the proof reach it."""
        return self.login.at(self.side) if self.login else self.loading

    @property
    def origin(self) -> str:
        """Return where the content comes from, as the stamp keeps it."""
        manifest = self.backup.manifest
        return f"{manifest.environment}/{manifest.database}@{manifest.id}"

    def lines(self) -> list[str]:
        """Return the plan as a person reads it."""
        manifest = self.backup.manifest
        rows = "rows not counted" if manifest.rows is None else report.plural(manifest.rows, "row")
        content = f"{report.plural(manifest.tables, 'table')}, {rows}"
        lines = [
            f"backup   {manifest.id} of {manifest.environment}/{manifest.database},"
            f" taken {manifest.snapshot_time}, {content}",
            f"tools    pg_restore {self.tools}, {self.jobs} jobs",
            f"build    {self.side!r}, owner {self.facts.owner!r}",
            self._replaced(),
        ]
        notes = [f"note     {note}" for note in self.notes]
        left = [f"without  {name}" for name in self.left.names]
        return [*lines, *left, *self._setting_lines(), *notes, *self._loss_lines()]

    def _setting_lines(self) -> list[str]:
        """Return the settings that a database made anew gets, or does not: a backup may say any."""
        if self.replaces:
            return []
        laid = [f"setting  {_setting(setting)}" for setting in self.facts.settings]
        return laid + [
            f"setting  not laid, --with-settings does: {_setting(setting)}"
            for setting in self.withheld
        ]

    def _replaced(self) -> str:
        name = self.target.database
        if self.invalid:
            return f"drop     what an interrupted DROP DATABASE left of {name!r}, it is invalid"
        if self.replaces:
            return f"replace  {name!r}, kept as {side_name(name, 'old', self.run)!r}"
        return f"replace  nothing: {name!r} does not exist"

    def _loss_lines(self) -> list[str]:
        changed = [loss for loss in self.losses if loss.differs]
        if not self.replaces:
            return []
        if not changed:
            return ["rows     as many in every table as now"]
        cells = [
            (
                loss.table,
                "-" if loss.now is None else ("~" if loss.estimated else "") + f"{loss.now:,}",
                "not counted" if loss.unproven else _cell(loss.backup),
            )
            for loss in changed
        ]
        headings = ("table", "rows now", "rows in the backup")
        return report.table(headings, cells, indent=2).splitlines()

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "backup": self.backup.id,
            "origin": self.origin,
            "tools": str(self.tools),
            "jobs": self.jobs,
            "side": self.side,
            "replaces": self.replaces,
            "notes": list(self.notes),
            "left_out": list(self.left.names),
            "rows": [
                {"table": loss.table, "now": loss.now, "backup": loss.backup}
                for loss in self.losses
                if loss.differs
            ],
        }


def _cell(rows: int | None) -> str:
    return "-" if rows is None else f"{rows:,}"


def _setting(setting: Setting) -> str:
    of_role = f" for role {setting.role!r}" if setting.role else ""
    return f"{setting.name} = {setting.value!r}{of_role}"


def losses(conn: Connection, backup: Backup) -> tuple[Loss, ...]:
    """Compare the rows of the target (`conn` is in it) with those of the backup, by table."""
    proof = backup.proof()
    if proof is None:
        return ()
    saved = {str(table): table.rows for table in proof.tables}
    now = _rows_now(conn)
    unproven = {item.object for item in proof.unproven if item.reason != LEFT_OUT}
    return tuple(
        Loss(
            name,
            now[name][0] if name in now else None,
            saved.get(name),
            estimated=name in now and now[name][1],
            unproven=name not in saved and f"table {name}" in unproven,
        )
        for name in sorted({*saved, *now})
    )


def _rows_now(conn: Connection) -> Mapping[str, tuple[int, bool]]:
    """Return rows by table and whether the number is an estimate.

    Of an extension's tables, what a backup would have of them: the others are made anew.
    """
    estimates = dict(
        connection.rows(conn, "SELECT oid, greatest(reltuples, 0)::bigint FROM pg_class")
    )
    tables = [table for table in catalog.relations(conn, "r") if table.dumped]
    end = time.monotonic() + _COUNT_SECONDS
    return {
        str(table): _count(conn, table, estimates.get(table.oid, 0), end)
        for table in sorted(tables, key=lambda table: table.bytes)
    }


def _count(conn: Connection, table: Relation, estimate: int, end: float) -> tuple[int, bool]:
    left = int((end - time.monotonic()) * 1000)
    if left <= 0:
        return estimate, True
    rows = rowcount.counted(conn, table, condition=table.condition or "", milliseconds=left)
    return (estimate, True) if rows is None else (rows, False)


def restore_argv(plan: Plan, *, use_list: str = "", schema_only: bool = False) -> tuple[str, ...]:
    """Return pg_restore's argv; where to comes from its environment."""
    argv = [plan.tools.tool("pg_restore"), "--exit-on-error", "--no-password"]
    argv.append(f"--jobs={plan.jobs}")
    argv += ["--schema-only"] if schema_only else []
    argv += [f"--use-list={use_list}"] if use_list else []
    argv += ["--no-tablespaces"] if plan.no_tablespaces else []
    if plan.no_owner:
        argv += ["--no-owner", "--no-privileges", f"--role={plan.facts.owner}"]
    return (*argv, f"--dbname={dbname(plan.side)}", str(plan.dump))


def analyze_argv(plan: Plan) -> tuple[str, ...]:
    """Return the argv that gathers the side database's statistics."""
    options = ("--analyze-only", "--quiet", "--no-password", f"--jobs={plan.jobs}")
    return (plan.tools.tool("vacuumdb"), *options, f"--dbname={dbname(plan.side)}")


def dbname(name: str) -> str:
    """Return a database's name for --dbname, where a name with `=` would be read as conninfo."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def load_command(plan: Plan, argv: tuple[str, ...], env: Mapping[str, str]) -> Command:
    """Return a command of the load: nothing of the side database needs to reach the disk early.

    The swap's commit does, and flushes all that came before it.
    """
    settings = dict.fromkeys(("statement_timeout", "lock_timeout"), "0")
    settings |= dict.fromkeys(("synchronous_commit", "default_transaction_read_only"), "off")
    if plan.rights.role:
        settings["role"] = plan.rights.role
    # those of the backup are there by the time that its statistics are gathered
    own = filter(None, (env.get("PGOPTIONS"), session.joined(settings)))
    options = " ".join(own) + connection.without_event_triggers(plan.loading)
    env = {**env, "PGOPTIONS": options}
    if plan.facts.encoding == "SQL_ASCII":  # whose names may be valid in no other
        env["PGCLIENTENCODING"] = "SQL_ASCII"
    return Command(argv, env)
