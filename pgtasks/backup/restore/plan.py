"""The plan of a restore: what is built and replaced, and what would be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.foreign.contents import named
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore.rolemap import RoleMap
from pgtasks.backup.store.backup import Backup
from pgtasks.database.leaving import NOTHING, LeftOut
from pgtasks.database.properties import DatabaseProperties, Setting
from pgtasks.database.replaced import Replaced
from pgtasks.database.rights import Rights
from pgtasks.database.roles import SavedRole
from pgtasks.database.side import side_name
from pgtasks.host import tools
from pgtasks.host.base import Command, Host
from pgtasks.host.tools import Toolset
from pgtasks.server import catalog, connection, rowcount, session, statistics
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.pg_dump import STATISTICS
from pgtasks.server.proof.model import LEFT_OUT
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_FEW = 8  # tables of one side only that are listed one by one
_NAMED, _SHOWN = 3, 20  # tables that a line names, and rows of the table
_GRANTS = ("ACL", "DEFAULT ACL")
_COUNT_SECONDS = 5.0  # for all counts together; tables not counted by then are estimated


@dataclass(frozen=True)
class Loss:
    """The rows of a table now and in the backup, None if the table does not exist there.

    The rows of an `unproven` table are in the backup, but were not counted.
    """

    table: str
    now: int | None
    backup: int | None
    estimated: bool = False
    unproven: bool = False

    @property
    def differs(self) -> bool:
        """Whether a restore changes the number of rows, or may change it."""
        return self.now != self.backup or self.unproven


@dataclass(frozen=True)
class RestorePlan:
    """Everything that a restore needs, collected before it changes anything.

    `facts` are the properties of the side database; `notes` are differences that stop nothing;
    `reader` is the pg_dump that describes the side database, `major` the server's;
    `login` is the target with the login of the load, if there is one; `withheld` are settings of
    the backup that are not applied, `left` the entries of the `archive` that are left out.
    """

    target: Target
    backup: Backup
    tools: Toolset
    facts: DatabaseProperties
    system: str
    run: str
    replaces: bool
    jobs: int
    rights: Rights
    invalid: bool = False  # an interrupted DROP left the target, and the restore drops it
    no_owner: bool = False
    no_acl: bool = False
    role_map: RoleMap = field(default_factory=RoleMap)
    roles: tuple[SavedRole, ...] = ()  # those to be created
    with_passwords: bool = False
    leave_behind: bool = False
    doubt: str = ""  # from the options
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    dump: Path = Path()
    accept: tuple[str, ...] = ()
    reader: Toolset | None = None
    major: int = 0
    login: Target | None = None
    withheld: tuple[Setting, ...] = ()
    left: LeftOut = NOTHING
    replaced: Replaced | None = None
    no_tablespaces: bool = False
    extensions: Mapping[str, str] = field(default_factory=dict)
    into: str = ""  # the name of the new database, if the target stays as it is
    archive: Sequence[Entry] = field(default=(), repr=False)

    def at_hand(self, host: Host) -> bool:
        """Return whether the backup is on the host of pg_restore, or needs no pg_restore."""
        return self.backup.host == host or self.script is not None

    @property
    def foreign(self) -> Dump | None:
        """Return the dump of somebody else, if it is none of ours that is restored."""
        return self.backup if isinstance(self.backup, Dump) else None

    @property
    def script(self) -> Dump | None:
        """Return the dump in SQL, whose statements are run one by one."""
        return self.foreign if self.foreign and self.foreign.plain else None

    @property
    def renamed(self) -> list[Entry]:
        """Return the entries that are run after pg_restore, for other roles."""
        kept = self.left.kept(self.archive)
        named = [*self.role_map.owners(kept), *self.role_map.named(kept)]
        return [each for each in named if not self.no_acl or each.desc not in _GRANTS]

    @property
    def missing(self) -> tuple[str, ...]:
        """Return what is left out and missing in the result: what leads outside is not."""
        outside = self.foreign.held.outside if self.foreign else {}
        return tuple(name for name in self.left.names if name not in outside)

    @property
    def result(self) -> Target:
        """Return the database that gets the content."""
        return self.target.at(self.into) if self.into else self.target

    @property
    def side(self) -> str:
        """Return the name of the side database."""
        return side_name(self.target.database, "new", self.run)

    @property
    def loading(self) -> Target:
        """Return the side database for the sessions of the load."""
        return replace((self.login or self.target).at(self.side), role=self.rights.role)

    @property
    def proving(self) -> Target:
        """Return the side database for the sessions of the proof."""
        return self.login.at(self.side) if self.login else self.loading

    @property
    def origin(self) -> str:
        """Return the origin of the content for the stamp."""
        if self.foreign:
            return self.foreign.origin
        manifest = self.backup.manifest
        return f"{manifest.environment}/{manifest.database}@{manifest.id}"

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        lines = [
            *self.content_lines(),
            f"build    {self.side!r}, owner {self.facts.owner!r}",
            self._replaced(),
            *(self.replaced.lines() if self.replaced else ()),
        ]
        notes = [f"note     {note}" for note in self.notes]
        left = [f"without  {name}" for name in self.left.names]
        return [*lines, *left, *self._setting_lines(), *notes, *self.loss_lines()]

    def content_lines(self) -> list[str]:
        """Return what is restored, by which tools and for which roles."""
        return [
            *self._source_lines(),
            *(f"role     {role.line(password=self.with_passwords)}" for role in self.roles),
            *(f"role     {line}" for line in self.role_map.lines()),
        ]

    def _source_lines(self) -> list[str]:
        manifest = self.backup.manifest
        pg_restore = f"tools    pg_restore {self.tools}, {report.plural(self.jobs, 'job')}"
        if self.script:
            number = report.plural(self.script.held.statements, "statement")
            return [*self.script.facts(), f"run      {number}, one by one"]
        if self.foreign:
            return [*self.foreign.facts(), pg_restore]
        rows = manifest.counted(otherwise="rows not counted")
        content = f"{report.plural(manifest.tables, 'table')}, {rows}"
        return [
            f"backup   {manifest.id} of {manifest.environment}/{manifest.database},"
            f" taken {manifest.snapshot_time}, {content}",
            pg_restore,
        ]

    def _setting_lines(self) -> list[str]:
        """Return the settings that a new database gets or does not get from the backup."""
        if self.replaces:
            return []
        lines = [f"setting  {_setting(setting)}" for setting in self.facts.settings]
        return lines + [
            f"setting  not laid, --with-settings does: {_setting(setting)}"
            for setting in self.withheld
        ]

    def _replaced(self) -> str:
        name = self.target.database
        if self.into:
            return f"create   {self.into!r}, beside {name!r}, which stays as it is"
        if self.invalid:
            return f"drop     what an interrupted DROP DATABASE left of {name!r}, it is invalid"
        if self.replaces:
            return f"replace  {name!r}, kept as {side_name(name, 'old', self.run)!r}"
        return f"replace  nothing: {name!r} does not exist"

    def loss_lines(self) -> list[str]:
        """Return how the number of rows changes."""
        changed = [loss for loss in self.losses if loss.differs]
        if not self.replaces:
            return []
        if not changed:
            return ["rows     the same number in every table as now (values are not compared)"]
        where = "dump" if self.foreign else "backup"
        lines, changed = _folded(changed, where)
        cells = [
            (
                loss.table,
                "-" if loss.now is None else ("~" if loss.estimated else "") + f"{loss.now:,}",
                "not counted" if loss.unproven else _cell(loss.backup),
            )
            for loss in changed[:_SHOWN]
        ]
        headings = ("table", "rows now", f"rows in the {where}")
        shown = report.table(headings, cells, indent=2).splitlines() if cells else []
        more = len(changed) - _SHOWN
        last = [f"  and {report.plural(more, 'table')} more, --json lists all"] if more > 0 else []
        return [*lines, *shown, *last]

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "backup": self.foreign.folder if self.foreign else self.backup.id,
            "origin": self.origin,
            "tools": str(self.tools),
            "jobs": self.jobs,
            "side": self.side,
            "replaces": self.replaces,
            "into": self.into or None,
            "mapped_roles": dict(self.role_map.names),
            "created_roles": [role.name for role in self.roles],
            **(self.replaced.as_json() if self.replaced else {}),
            "notes": list(self.notes),
            "left_out": list(self.left.names),
            "rows": [
                {"table": loss.table, "now": loss.now, "backup": loss.backup}
                for loss in self.losses
                if loss.differs
            ],
        }


def _folded(changed: Sequence[Loss], where: str) -> tuple[list[str], list[Loss]]:
    """Return a line for many tables that are on one side only, and what is left of them."""
    lines, rest = [], list(changed)
    for side, words in (("backup", f"not in the {where}"), ("now", "new")):
        alone = [each for each in rest if getattr(each, side) is None and not each.unproven]
        if len(alone) <= _FEW:
            continue
        names = ", ".join(each.table for each in alone[:_NAMED])
        number = sum((each.now or 0) + (each.backup or 0) for each in alone)
        about = "about " if any(each.estimated for each in alone) else ""
        rows = about + report.plural(number, "row")
        more = len(alone) - _NAMED
        lines.append(f"rows     {len(alone)} tables are {words}, {rows}: {names} and {more} more")
        rest = [each for each in rest if each.unproven or getattr(each, side) is not None]
    return lines, rest


def _cell(rows: int | None) -> str:
    return "-" if rows is None else f"{rows:,}"


def _setting(setting: Setting) -> str:
    of_role = f" for role {setting.role!r}" if setting.role else ""
    return f"{setting.name} = {setting.value!r}{of_role}"


def losses(conn: Connection, backup: Backup) -> tuple[Loss, ...]:
    """Compare the rows of the target with those of the backup; `conn` is in the target."""
    beside: set[str] = set()
    made: set[str] = set()
    if isinstance(backup, Dump):
        if not backup.counted:
            return ()
        saved = {named(table): rows for table, rows in backup.held.rows.items()}
        unproven = {f"table {named(table)}" for table in backup.held.inserted}
        beside = {named(table) for table in backup.held.inserted}
        made = {named(table) for table in backup.held.tables} - beside
    elif proof := backup.proof():
        saved = {str(table): table.rows for table in proof.tables}
        unproven = {item.object for item in proof.unproven if item.reason != LEFT_OUT}
    else:
        return ()
    now = rows_now(conn, [table for table in catalog.relations(conn, "r") if table.dumped])
    saved = {**dict.fromkeys(made & now.keys(), 0), **saved}  # a dump of the schema has no rows
    return tuple(
        Loss(
            name,
            now[name][0] if name in now else None,
            saved.get(name),
            estimated=name in now and now[name][1],
            unproven=name not in saved and f"table {name}" in unproven,
        )
        for name in sorted({*saved, *now, *beside})
    )


def rows_now(conn: Connection, tables: Sequence[Relation]) -> Mapping[str, tuple[int, bool]]:
    """Return the rows by table, and whether each number is an estimate.

    For a table of an extension, only the rows that a backup would save: others are created again.
    """
    query = "SELECT oid, greatest(reltuples, 0)::bigint FROM pg_class"
    estimates = dict(connection.rows(conn, query, into=tuple[int, int]))
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


def restore_argv(
    plan: RestorePlan, *, use_list: str = "", schema_only: bool = False, verbose: bool = False
) -> tuple[str, ...]:
    """Return the argv of pg_restore; its environment names the database."""
    argv = [plan.tools.tool("pg_restore"), "--exit-on-error", "--no-password"]
    argv.append(f"--jobs={plan.jobs}")
    argv += ["--schema-only"] if schema_only else []
    argv += ["--verbose"] if verbose else []
    argv += [f"--use-list={use_list}"] if use_list else []
    argv += [f"--role={plan.facts.owner}"] if plan.no_owner else []
    return (*argv, *_without(plan), f"--dbname={tools.dbname(plan.side)}", str(plan.dump))


def script_argv(plan: RestorePlan, *, use_list: str) -> tuple[str, ...]:
    """Return the argv of pg_restore that prints the archive as SQL, for any session."""
    argv = [plan.tools.tool("pg_restore"), "--file=-", f"--use-list={use_list}"]
    return (*argv, *_without(plan), str(plan.dump))


def _without(plan: RestorePlan) -> Iterator[str]:
    """Yield the flags that leave out what does not fit the server, or is not wanted."""
    if plan.no_tablespaces:
        yield "--no-tablespaces"
    if plan.major < STATISTICS <= plan.tools.major:
        yield "--no-statistics"
    if plan.no_owner or plan.role_map:  # all of it belongs to the role of the load
        yield "--no-owner"
    if plan.no_owner or plan.no_acl:
        yield "--no-privileges"


def analyze_argv(plan: RestorePlan, tables: list[str]) -> tuple[str, ...]:
    """Return the argv that gathers the statistics of tables of the side database.

    `tables` are names as SQL has them.
    """
    argv = [plan.tools.tool("vacuumdb"), "--analyze-only", "--quiet", "--no-password"]
    argv += [f"--jobs={plan.jobs}", *statistics.flags(tables)]
    return (*argv, f"--dbname={tools.dbname(plan.side)}")


def load_command(plan: RestorePlan, argv: tuple[str, ...], env: Mapping[str, str]) -> Command:
    """Return a command of the load, with synchronous_commit off.

    The commit of the swap flushes everything before it.
    """
    settings = dict.fromkeys(("synchronous_commit", "default_transaction_read_only"), "off")
    if plan.rights.role:
        settings["role"] = plan.rights.role
    # those of the backup exist by the time that its statistics are gathered
    own = filter(None, (env.get("PGOPTIONS"), session.joined(settings)))
    options = " ".join(own) + connection.of_programs(plan.loading)
    env = {**env, "PGOPTIONS": options}
    if plan.facts.encoding == "SQL_ASCII":  # whose names may be invalid in any other
        env["PGCLIENTENCODING"] = "SQL_ASCII"
    return Command(argv, env)
