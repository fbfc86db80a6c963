"""A database on one screen: server, content, upkeep, sessions, cache, extensions, migrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import PgtasksError
from pgtasks.schema import trigger
from pgtasks.schema.inspect.size import Sizes, sizes
from pgtasks.server import connection, versiontable
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_LARGEST = 5
_WRAPAROUND = 2**31
# The number of sessions includes those of other databases: all share max_connections.
_SERVER = """
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
  extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS up,
  pg_encoding_to_char(d.encoding)::text AS encoding, d.datcollate::text AS collation,
  pg_get_userbyid(d.datdba)::text AS owner,
  (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS sessions,
  current_setting('max_connections')::int AS most_sessions,
  count(a.pid)::int AS here, count(a.pid) FILTER (WHERE a.state = 'active')::int AS active,
  count(a.pid) FILTER (WHERE a.state LIKE 'idle in transaction%')::int AS in_transaction,
  count(a.pid) FILTER (WHERE a.wait_event_type = 'Lock')::int AS waiting,
  max(extract(epoch FROM clock_timestamp() - a.xact_start))::float8 AS oldest_transaction,
  age(d.datfrozenxid) AS frozen_age
FROM pg_database d LEFT JOIN pg_stat_activity a ON a.datid = d.oid AND a.pid <> pg_backend_pid()
  AND a.backend_type = 'client backend'
WHERE d.datname = current_database() GROUP BY d.oid
"""
_STATISTICS = """
SELECT extract(epoch FROM clock_timestamp() - stats_reset)::float8 AS age,
  blks_hit AS hit, blks_read AS read, xact_commit AS commits, xact_rollback AS rollbacks,
  deadlocks, temp_files, temp_bytes::int8 AS temp_bytes
FROM pg_stat_database WHERE datname = current_database()
"""
_UPKEEP = """
SELECT count(*)::int AS tables,
  count(*) FILTER (WHERE greatest(last_analyze, last_autoanalyze) IS NULL)::int AS never_analyzed,
  max(extract(epoch FROM clock_timestamp() - greatest(last_analyze, last_autoanalyze)))::float8
    AS oldest_analyze,
  coalesce(sum(n_dead_tup), 0)::int8 AS dead_rows, coalesce(sum(n_live_tup), 0)::int8 AS rows
FROM pg_stat_user_tables
"""
_COUNTS = f"""
SELECT 'tables' AS kind, count(*)::int FROM pg_class c JOIN pg_namespace n
  ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relpersistence <> 't' AND {OWN_SCHEMA}
UNION ALL SELECT 'partitions', count(*)::int FROM pg_class c WHERE c.relispartition
  AND c.relkind IN ('r', 'p')
UNION ALL SELECT 'views', count(*)::int FROM pg_class c JOIN pg_namespace n
  ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {OWN_SCHEMA}
UNION ALL SELECT 'indexes', count(*)::int FROM pg_class c JOIN pg_namespace n
  ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I') AND {OWN_SCHEMA}
UNION ALL SELECT 'functions', count(*)::int FROM pg_proc p JOIN pg_namespace n
  ON n.oid = p.pronamespace WHERE {OWN_SCHEMA} AND NOT EXISTS (SELECT FROM pg_depend d
  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT 'triggers', count(*)::int FROM pg_trigger
  WHERE NOT tgisinternal AND tgparentid = 0
UNION ALL SELECT 'invalid indexes', count(*)::int FROM pg_index WHERE NOT indisvalid
"""
_EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"


@dataclass(frozen=True)
class Server:
    """Facts about the server and the sessions of the database; times in seconds.

    `sessions` are those of the server, `here` those of the database without our own.
    """

    version: str
    standby: bool
    up: float
    encoding: str
    collation: str
    owner: str
    sessions: int
    most_sessions: int
    here: int
    active: int
    in_transaction: int
    waiting: int
    oldest_transaction: float | None
    frozen_age: int


@dataclass(frozen=True)
class Statistics:
    """What the server counted in the database; `age` is None if it has counted since its start."""

    age: float | None
    hit: int
    read: int
    commits: int
    rollbacks: int
    deadlocks: int
    temp_files: int
    temp_bytes: int


@dataclass(frozen=True)
class Upkeep:
    """When the tables were analyzed, and rows that VACUUM would remove."""

    tables: int
    never_analyzed: int
    oldest_analyze: float | None
    dead_rows: int
    rows: int


@dataclass(frozen=True)
class Overview:
    """The facts about a database; `revisions` are those of Alembic's version table.

    `triggers` is the state of the project's trigger files, empty if it has none.
    """

    server: Server
    statistics: Statistics
    upkeep: Upkeep
    counts: Mapping[str, int]
    extensions: Mapping[str, str]
    revisions: tuple[str, ...]
    sizes: Sizes
    triggers: str = ""

    def lines(self) -> list[str]:
        """Return what a person reads."""
        rows = [(name, text) for name, text in self._facts() if text]
        widest = max(len(name) for name, _ in rows)
        lines = [report.hanging(f"{name.ljust(widest)}  ", text) for name, text in rows]
        return [*lines, *([""] if self.sizes.largest(1) else []), *self.sizes.chart(_LARGEST)]

    def _facts(self) -> Iterator[tuple[str, str]]:
        server, upkeep = self.server, self.upkeep
        role = "standby" if server.standby else "primary"
        yield "server", f"PostgreSQL {server.version}, {role}, up {report.age(server.up)}"
        owner, size = report.printable(server.owner), report.size(self.sizes.bytes)
        yield "database", f"of {owner!r}, {server.encoding}, {server.collation}, {size}"
        yield "content", ", ".join(self._counted())
        invalid = self.counts["invalid indexes"]
        yield "invalid", f"{invalid:,} of the indexes" if invalid else ""
        yield "analyzed", self._analyzed()
        dead = f", {report.plural(upkeep.dead_rows, 'dead row')}" if upkeep.dead_rows else ""
        yield "rows", f"about {report.count(upkeep.rows)}{dead}"
        yield "sessions", self._sessions()
        yield "cache", self._cache()
        yield "work", self._work()
        used = server.frozen_age / _WRAPAROUND
        yield "freeze", f"{used:.0%} of the transaction IDs until wraparound" if used > 0.1 else ""
        extensions = (f"{name} {version}" for name, version in self.extensions.items())
        yield "extensions", report.printable(", ".join(extensions))
        yield "migrations", report.printable(", ".join(self.revisions))
        yield "triggers", report.printable(self.triggers)

    def _counted(self) -> Iterator[str]:
        for name in ("tables", "partitions", "views", "indexes", "functions", "triggers"):
            number = self.counts[name]
            one = "index" if name == "indexes" else name.removesuffix("s")
            if number:
                yield f"{number:,} {one if number == 1 else name}"

    def _analyzed(self) -> str:
        upkeep = self.upkeep
        never, oldest = upkeep.never_analyzed, upkeep.oldest_analyze
        if oldest is None:
            return "never" if upkeep.tables else ""
        within = f"within {report.age(oldest)}"
        return f"{never:,} of {upkeep.tables:,} tables never, others {within}" if never else within

    def _sessions(self) -> str:
        server = self.server
        states = {
            "active": server.active,
            "idle in transaction": server.in_transaction,
            "waiting for a lock": server.waiting,
        }
        words = [f"{number} {state}" for state, number in states.items() if number]
        doing = f" ({', '.join(words)})" if words else ""
        here = f"{server.here} here{doing}"
        oldest = server.oldest_transaction
        since = f", oldest transaction {report.duration(oldest)}" if oldest else ""
        return f"{here}, {server.sessions} of {server.most_sessions} on the server{since}"

    def _cache(self) -> str:
        hit, read = self.statistics.hit, self.statistics.read
        if not hit + read:
            return ""
        age = self.statistics.age
        since = f", counted for {report.age(age)}" if age is not None else ""
        return f"{hit / (hit + read):.1%} of block reads were hits{since}"

    def _work(self) -> str:
        statistics = self.statistics
        temporary = report.size(statistics.temp_bytes)
        return ", ".join(
            filter(
                None,
                (
                    report.plural(statistics.commits, "commit"),
                    report.plural(statistics.rollbacks, "rollback"),
                    report.plural(statistics.deadlocks, "deadlock") if statistics.deadlocks else "",
                    f"{temporary} of temporary files" if statistics.temp_files else "",
                ),
            )
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **{name: asdict(getattr(self, name)) for name in ("server", "statistics", "upkeep")},
            "counts": {name.replace(" ", "_"): number for name, number in self.counts.items()},
            "extensions": dict(self.extensions),
            "revisions": list(self.revisions),
            "triggers": self.triggers,
            "bytes": self.sizes.bytes,
            "largest": [each.as_json() for each in self.sizes.largest(_LARGEST)],
        }


def overview(conn: Connection, triggers: str = "") -> Overview:
    """Return the facts about a database; `triggers` is the state of the trigger files."""
    (server,) = connection.rows(conn, _SERVER, into=Server)
    (statistics,) = connection.rows(conn, _STATISTICS, into=Statistics)
    (upkeep,) = connection.rows(conn, _UPKEEP, into=Upkeep)
    return Overview(
        *(server, statistics, upkeep),
        counts=dict(connection.rows(conn, _COUNTS, into=tuple[str, int])),
        extensions=dict(connection.rows(conn, _EXTENSIONS, into=tuple[str, str])),
        revisions=versiontable.revisions(versiontable.read(conn)),
        sizes=sizes(conn),
        triggers=triggers,
    )


def of_triggers(project: Project, target: Target) -> str:
    """Return the state of the project's trigger files, empty if it has none."""
    try:
        files = trigger.read(project)
        return trigger.verify(files, target).sentence() if files else ""
    except PgtasksError as exc:
        return f"not compared: {exc.message}"
