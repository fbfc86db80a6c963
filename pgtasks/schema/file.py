"""The schema of a database as one SQL file: the same text on every major, and psql loads it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import BadConfiguration, NotProven, Refused
from pgtasks.host import plainfile, tools
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.schema import printed
from pgtasks.schema.trigger import fingerprint
from pgtasks.server import connection, versiontable
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe
from pgtasks.server.proof import entries as archive
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

NAME = "schema.sql"
NOT_OURS = "is no schema file that schema.write has written"
LIMIT = 64 << 20  # bytes of a file
_LOCK_WAIT = 10  # seconds that pg_dump waits for a table that is locked exclusively
_OPTIONS = ("--schema-only", f"--lock-wait-timeout={_LOCK_WAIT * 1000}")
_HEADER = """\
-- The schema of a database, without rows, owners and grants, by `inv schema.write`.
-- psql --no-psqlrc --single-transaction --set ON_ERROR_STOP=1 --file FILE loads it.
SET client_encoding = 'UTF8';
SET check_function_bodies = false;
SET client_min_messages = warning;
SELECT pg_catalog.set_config('search_path', '', false);
"""
_FIRST = _HEADER.partition(",")[0]
# rows, labels that need their provider, and options with passwords
_LEFT_OUT = ("MATERIALIZED VIEW DATA", "SECURITY LABEL", "USER MAPPING")
_SHOWN = 100  # lines of a difference


def text(target: Target, host: Host) -> str:
    """Return the schema of a database as SQL, with the revisions of its version tables.

    pg_dump reads it, in the version of the server. Raises Failed, VersionMismatch.
    """
    with connection.session(target, read_only=True, purpose="schema") as conn:
        major = conn.server_version // 10000
        encoding = connection.value(conn, "SHOW server_encoding", into=str)
        revisions = list(_revisions(conn))
    toolset = tools.for_dump(tools.available(host, target), major, target)
    found = describe.described(target, host, toolset, encoding=encoding, options=_OPTIONS)
    return "\n".join([_HEADER, *_statements(fingerprint.unmarked(found)), *revisions])


def _revisions(conn: Connection) -> Iterator[str]:
    for table in versiontable.read(conn):
        for revision in table.revisions:
            statement = sql.SQL("INSERT INTO {} (version_num) VALUES ({});\n").format(
                sql.Identifier(table.schema, table.name), sql.Literal(revision)
            )
            yield statement.as_string(conn)


def _statements(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        if archive.is_inside(entry) and entry.desc not in _LEFT_OUT and not _of_others(entry):
            text = entry.definition.decode("utf-8", "surrogateescape").strip()
            definition = printed.normalized(entry.desc, text)
            # a line end in a name would end the comment
            name = report.printable(archive.name((entry.desc, entry.namespace, entry.tag)))
            yield f"-- {name}\n{definition}\n"


def _of_others(entry: Entry) -> bool:
    """Return whether an entry is about what the server or an extension makes."""
    about_extension = entry.desc == "COMMENT" and entry.tag.startswith("EXTENSION ")
    public = entry.desc == "SCHEMA" and entry.tag == "public"
    comment = entry.definition.startswith(b"COMMENT ON SCHEMA public IS ")
    return about_extension or public or comment or not entry.definition.strip()


@dataclass(frozen=True)
class SchemaFile:
    """A schema file beside the database: its text as it is, and as the database says."""

    name: str
    path: Path
    before: str | None
    after: str
    written: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether the file holds something else than a schema file of ours."""
        before = self.before or ""
        return bool(before.strip()) and not before.startswith(_FIRST)

    @property
    def changed(self) -> bool:
        """Whether file and database differ."""
        return self.before != self.after

    def lines(self) -> list[str]:
        """Return what a person reads."""
        size = report.plural(self.after.count("\n") + 1, "line")
        if not self.changed:
            return [f"{self.name} is as the database: {size}"]
        if self.written:
            return [f"wrote {self.name}: {size}"]
        return [*self.difference(), self.sentence()]

    def sentence(self) -> str:
        """Return the difference in one line."""
        if self.before is None:
            return f"there is no {self.name}"
        if self.is_foreign:
            return f"{self.name} {NOT_OURS}"
        return f"{self.name} differs from the database"

    def difference(self) -> list[str]:
        """Return the first lines of a unified diff, from the file to the database."""
        before = (self.before or "").splitlines()
        both = (self.name, "database")
        lines = list(difflib.unified_diff(before, self.after.splitlines(), *both, lineterm=""))
        more = len(lines) - _SHOWN
        return [*lines[:_SHOWN], *([f"and {more} lines more"] if more > 0 else [])]

    def check(self) -> None:
        """Raise NotProven if file and database differ."""
        if self.changed:
            way = "" if self.is_foreign else f": {typed.task('schema.write')} writes it"
            raise NotProven(f"{self.sentence()}{way}", details=self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "file": self.name,
            "changed": self.changed,
            "written": self.written,
            "difference": self.difference() if self.changed and not self.written else [],
        }


def place(project: Project, file: str | None) -> Path:
    """Return the path of the schema file: that of the flag, or schema.sql in the SQL folder."""
    return project.root / file if file else project.folder("sql") / NAME


def compared(project: Project, path: Path, target: Target, host: Host) -> SchemaFile:
    """Return the schema file and what the database says, without writing it."""
    name = str(path.relative_to(project.root)) if path.is_relative_to(project.root) else str(path)
    return SchemaFile(name, path, _content(path, name), text(target, host))


def _content(path: Path, name: str) -> str | None:
    try:
        content = plainfile.read(path.parent, path.name, limit=LIMIT)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadConfiguration(f"{name}: {exc.strerror or exc}") from None
    return content.decode("utf-8", "surrogateescape")


def write(made: SchemaFile) -> SchemaFile:
    """Write the file if it differs, in one piece; raises Refused if it holds something else."""
    if not made.changed:
        return made
    if made.is_foreign:
        raise Refused(f"{made.name} {NOT_OURS}: it stays as it is, name another one with --file")
    content = made.after.encode("utf-8", "surrogateescape")
    try:
        made.path.parent.mkdir(parents=True, exist_ok=True)
        plainfile.replace(made.path.parent, made.path.name, content, mode=0o644)
    except OSError as exc:
        raise BadConfiguration(f"{made.name}: {exc.strerror or exc}") from None
    return SchemaFile(made.name, made.path, made.before, made.after, written=True)
