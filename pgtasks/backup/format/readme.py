"""The README.txt of a backup: how to restore it with only PostgreSQL's own tools."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from psycopg2 import sql

from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.names import DATABASE, GLOBALS, PROOF, dump_name
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.server import stamp
from pgtasks.server.connection import Connection

NAME = "README.txt"
SETTINGS = "settings.sql"


def text(
    manifest: Manifest, facts: DatabaseProperties, *, has_globals: bool, passwords: bool
) -> str:
    """Return the text; its commands work as written in the folder of the backup."""
    tool = ".".join(map(str, manifest.dump_tool))
    rows = "" if manifest.rows is None else f", {manifest.counted(otherwise='')}"
    parts = [
        f"Backup {manifest.id}: database {manifest.database!r}, environment "
        f"{manifest.environment!r}.\nContent as of {manifest.snapshot_time} (UTC): "
        f"{manifest.tables:,} tables{rows}.\nFrom {manifest.server}.\n"
        f"Made with pg_dump {tool}, format {manifest.layout}, compression {manifest.compression}.",
        *_lacking(manifest),
        _whole(),
        _restore(manifest, facts, has_globals=has_globals),
        _files(manifest, has_globals=has_globals, passwords=passwords),
    ]
    return "\n\n".join(parts) + "\n"


def _lacking(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.schema_only:
        lines.append("It has the schema only, no rows.")
    if manifest.excluded_data:
        lines.append(f"Rows were left out of: {', '.join(manifest.excluded_data)}")
    return lines + [f"Warning: {warning}" for warning in manifest.warnings]


def _whole() -> str:
    return "IS IT WHOLE?\n\n    sha256sum --check --quiet SHA256SUMS\n\nsays nothing if it is."


def _restore(manifest: Manifest, facts: DatabaseProperties, *, has_globals: bool) -> str:
    name, dump = _dbname(facts.name), dump_name(manifest.layout)
    psql = "psql --no-psqlrc --dbname=postgres"
    steps = [
        ("An empty database:", [_createdb(facts)]),
        (
            "Its owner, privileges, settings, comment:",
            [f"{psql} --set=ON_ERROR_STOP=1 --file={SETTINGS}"],
        ),
        (
            "Its content (--jobs=4 is faster, unless tables are partitioned):",
            [f"pg_restore --exit-on-error --dbname={name} {dump}"],
        ),
        ("Statistics for the planner:", [f"vacuumdb --analyze-only --dbname={name}"]),
    ]
    if has_globals:
        words = "Roles and tablespaces (errors for existing ones can be ignored):"
        steps.insert(0, (words, [f"{psql} --file={GLOBALS}"]))
    if properties.late_statements(facts.name, facts):
        again = f"{psql} --set=ON_ERROR_STOP=1 --set=late=1 --file={SETTINGS}"
        steps.append(("The settings that would have stopped the load:", [again]))
    numbered = (
        "\n".join([f"{number}. {words}", "", *(f"    {line}" for line in lines), ""])
        for number, (words, lines) in enumerate(steps, 1)
    )
    return f"{_which_tools(manifest)}\n\n" + "\n".join(numbered).rstrip()


def _which_tools(manifest: Manifest) -> str:
    major = manifest.dump_tool[0]
    newer = f"of version {major} or newer"
    if major < 17:
        known = f"{major}" if major == 16 else f"{major} to 16"
        newer = (
            f"of version {known}; into a server\nof 17 or newer, of any version from {major} on "
            "(from 17 on it sets transaction_timeout,\nwhich older servers do not know)"
        )
    return (
        f"TO RESTORE IT\n\n"
        f"Into a server of PostgreSQL {manifest.major} or newer, with a pg_restore {newer}.\n\n"
        "Say where the server is with PGHOST, PGPORT and PGUSER."
    )


def _createdb(facts: DatabaseProperties) -> str:
    options = [
        "--template=template0",
        f"--encoding={facts.encoding}",
        f"--lc-collate={shlex.quote(facts.collate)}",
        f"--lc-ctype={shlex.quote(facts.ctype)}",
    ]
    if facts.provider != "libc":
        options.append(f"--locale-provider={facts.provider}")
        flag = "icu-locale" if facts.provider == "icu" else "builtin-locale"
        options.append(f"--{flag}={shlex.quote(facts.locale)}")
    return f"createdb {' '.join(options)} -- {shlex.quote(facts.name)}"


def _dbname(name: str) -> str:
    """Return the value of --dbname; a name with = would be read as a connection string."""
    if "=" in name or name.startswith(("postgres://", "postgresql://")):
        escaped = name.replace("\\", "\\\\").replace("'", "\\'")
        name = f"dbname='{escaped}'"
    return shlex.quote(name)


def settings(conn: Connection, facts: DatabaseProperties) -> str:
    """Return the SQL that sets owner, privileges, settings and comment of the database.

    Settings that would stop a load come last, and need psql with --set=late=1.
    """
    name = sql.Identifier(facts.name)
    statements = [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(facts.owner)),
        *properties.laying_statements(facts.name, facts),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            name, sql.Literal(facts.connection_limit)
        ),
        stamp.comment_statement(facts.name, facts.comment, None),
    ]
    late = properties.late_statements(facts.name, facts)
    if not late:
        return _lines(conn, statements)
    return f"{_lines(conn, statements)}\\if :{{?late}}\n{_lines(conn, late)}\\endif\n"


def _lines(conn: Connection, statements: Sequence[sql.Composed]) -> str:
    return "".join(f"{statement.as_string(conn)};\n" for statement in statements)


def _files(manifest: Manifest, *, has_globals: bool, passwords: bool) -> str:
    lines = [
        ("manifest.json", "description of this backup, size and SHA-256 of every other file"),
        (dump_name(manifest.layout), f"the dump (pg_dump --format={manifest.layout})"),
        (SETTINGS, "SQL for the database itself"),
        (DATABASE, "the same facts for programs"),
    ]
    if has_globals:
        held = "with password hashes: keep it safe" if passwords else "without passwords"
        lines.append((GLOBALS, f"roles and tablespaces of the whole server, {held}"))
    if manifest.with_proof:
        lines.append((PROOF, "rows and fingerprint of every table, to compare a restore with"))
    width = max(len(name) for name, _ in lines)
    return "FILES\n\n" + "\n".join(f"    {name.ljust(width)}  {purpose}" for name, purpose in lines)
