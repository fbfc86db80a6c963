"""The stamp: one line at the end of a database's comment that says what the database is.

It is readable in `\\l+`, set from another database, survives RENAME, and is not copied by CREATE
DATABASE ... TEMPLATE. Every archive holds the comment and `pg_restore -C` replays it, hence the
server's system identifier in it: a stamp that travelled is *foreign* and counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from psycopg2 import sql

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.silence import ANSWER

_MARK = "pgtasks:"
_LONGEST = 1 << 20  # characters of a comment that are read, the last: it may be a gigabyte


def comment(database: str = "pg_database") -> str:
    """Return the SQL of a database's comment, in a query of pg_database by that name."""
    return (
        f"(SELECT CASE WHEN octet_length(c) > {_LONGEST} THEN right(c, {_LONGEST}) ELSE c END"
        f" FROM shobj_description({database}.oid, 'pg_database') c)"
    )


COMMENT = comment()


@dataclass(frozen=True)
class Stamp:
    """What a stamp says. `role` is `live`, `new` (a side database) or `old` (kept for undo).

    `database` is the name that the database had, or is meant to get; `run` is the ID of the run
    that made a side database; `kept_owner` owns what this one replaced, where that is another role;
    `lacks` names what its restore left out, line by line.
    """

    environment: str
    database: str
    system: str
    origin: str = ""
    role: str = "live"
    run: str = ""
    kept_owner: str = ""
    lacks: str = ""

    def line(self) -> str:
        """Return the stamp as it stands in the comment."""
        parts = {
            "environment": self.environment,
            "database": self.database,
            "system": self.system,
            "origin": self.origin,
            "role": "" if self.role == "live" else self.role,
            "run": self.run,
            "kept_owner": self.kept_owner,
            "lacks": self.lacks,
        }
        words = (f"{key}={quote(text, safe='/@:+')}" for key, text in parts.items() if text)
        return f"{_MARK} {' '.join(words)}"


def split(comment: str | None) -> tuple[str, Stamp | None]:
    """Split a database's comment into the text before the stamp and the stamp."""
    text = comment or ""
    before, _, last = text.rpartition("\n")
    if not last.startswith(_MARK):
        return text, None
    fields = dict(part.split("=", 1) for part in last[len(_MARK) :].split() if "=" in part)
    values = {key: unquote(value) for key, value in fields.items()}
    known = Stamp.__dataclass_fields__
    if not {"environment", "database", "system"} <= values.keys():
        return text, None
    return before, Stamp(**{key: value for key, value in values.items() if key in known})


def joined(text: str, stamp: Stamp | None) -> str:
    """Return the comment for a text and a stamp."""
    if stamp is None:
        return text
    return f"{text}\n{stamp.line()}" if text else stamp.line()


@dataclass(frozen=True)
class Identity:
    """What a connection itself says of the database it is in."""

    database: str
    system: str
    user: str
    comment: str
    stamp: Stamp | None
    empty: bool
    standby: bool = False
    invalid: bool = False  # an interrupted DROP DATABASE left it, seen from another database

    @property
    def foreign(self) -> bool:
        """Whether the stamp belongs to another database or another server."""
        stamp = self.stamp
        return stamp is not None and (stamp.database, stamp.system) != (self.database, self.system)


def system_identifier(conn: Connection) -> str:
    """Return the server's system identifier, as `pg_controldata` prints it."""
    query = "SELECT system_identifier::text FROM pg_control_system()"
    value = connection.value(conn, query, limit=ANSWER)
    return str(value)


def read(conn: Connection, database: str) -> tuple[str, Stamp | None]:
    """Return the comment of a database of the server without its stamp, and the stamp."""
    query = f"SELECT {COMMENT} FROM pg_database WHERE datname = %s"
    return split(connection.value(conn, query, (database,)))


def identify(conn: Connection) -> Identity:
    """Ask a connection which database it is in, on which server, and read the stamp there."""
    database, user, comment, standby = connection.rows(
        conn,
        f"SELECT current_database(), current_user, {COMMENT},"
        " pg_is_in_recovery() FROM pg_database WHERE datname = current_database()",
        into=tuple[str, str, str | None, bool],
        limit=ANSWER,
    )[0]
    text, its_stamp = split(comment)
    system, empty = system_identifier(conn), _is_empty(conn)
    return Identity(database, system, user, text, its_stamp, empty, standby)


def glimpse(conn: Connection, database: str) -> Identity | None:
    """Return what another database of the server can see of one, None where there is none."""
    seen = connection.row(
        conn,
        f"SELECT current_user, {COMMENT}, pg_is_in_recovery(),"
        " datconnlimit = -2 FROM pg_database WHERE datname = %s",
        (database,),
        into=tuple[str, str | None, bool, bool],
        limit=ANSWER,
    )
    if seen is None:
        return None
    user, comment, standby, invalid = seen
    text, its_stamp = split(comment)
    return Identity(
        database, system_identifier(conn), user, text, its_stamp, True, standby, invalid
    )


# Objects made after initdb have OIDs from 16384 on (FirstNormalObjectId in access/transam.h). What
# an extension brought is not a user's own, nor is another session's temporary table.
_CONTENT = """
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.deptype = 'e')
) OR EXISTS (
    SELECT FROM pg_proc p WHERE p.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
        AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
) OR EXISTS (
    SELECT FROM pg_type t WHERE t.oid >= 16384 AND t.typtype IN ('d', 'e', 'r')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
        AND d.objid = t.oid AND d.deptype = 'e')
) OR EXISTS (SELECT FROM pg_largeobject_metadata)
"""


def _is_empty(conn: Connection) -> bool:
    """Return whether nothing of a user's own is in the database."""
    return not connection.value(conn, _CONTENT)


def comment_statement(database: str, text: str, stamp: Stamp | None) -> sql.Composed:
    """Return the statement that sets a database's comment; it runs from any database."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(
        sql.Identifier(database), sql.Literal(joined(text, stamp) or None)
    )
