"""The stamp: one line at the end of a database's comment that identifies the database.

It is readable in `\\l+`, set from another database, survives RENAME, and is not copied by CREATE
DATABASE ... TEMPLATE. Every archive contains the comment, and `pg_restore -C` restores it; so it
has the server's system identifier: a stamp that was copied to another server is *foreign*, and
ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from psycopg2 import sql

_MARK = "pgtasks:"
BESIDE = "beside "
_LONGEST = 1 << 20  # the last characters of a comment, which are read: it may have a gigabyte


def comment(database: str = "pg_database") -> str:
    """Return the SQL of a database's comment, in a query of pg_database by that name."""
    return (
        f"(SELECT CASE WHEN octet_length(c) > {_LONGEST} THEN right(c, {_LONGEST}) ELSE c END"
        f" FROM shobj_description({database}.oid, 'pg_database') c)"
    )


COMMENT = comment()


@dataclass(frozen=True)
class Stamp:
    """The content of a stamp. `role` is `live`, `new` (a side database), `old` (kept for undo) or
    `clone`, whose name is `clone`.

    `database` is the name that the database had, or will get; `run` is the ID of the run that
    created a side database; `kept_owner` is the owner of the replaced database, if it is another
    role; `lacks` are the objects that its restore left out, one per line; `masks` is the version of
    the masks of its data, `taken` the time of the snapshot that its data is from, in UTC; `seeds`
    are the sets that were loaded, see schema/seed/record.py.
    """

    environment: str
    database: str
    system: str
    origin: str = ""
    role: str = "live"
    run: str = ""
    kept_owner: str = ""
    lacks: str = ""
    masks: str = ""
    taken: str = ""
    clone: str = ""
    seeds: str = ""

    def line(self) -> str:
        """Return the line for the comment."""
        parts = {
            "environment": self.environment,
            "database": self.database,
            "system": self.system,
            "origin": self.origin,
            "role": "" if self.role == "live" else self.role,
            "run": self.run,
            "kept_owner": self.kept_owner,
            "lacks": self.lacks,
            "masks": self.masks,
            "taken": self.taken,
            "clone": self.clone,
            "seeds": self.seeds,
        }
        words = (f"{key}={quote(text, safe='/@:+')}" for key, text in parts.items() if text)
        return f"{_MARK} {' '.join(words)}"


def beside(environment: str) -> str:
    """Return the environment in the stamp of a database that was restored beside another one.

    No environment can have such a name, so that it never counts as one's own.
    """
    return f"{BESIDE}{environment}"


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


def comment_statement(database: str, text: str, stamp: Stamp | None) -> sql.Composed:
    """Return the statement that sets a database's comment; it runs from any database."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(
        sql.Identifier(database), sql.Literal(joined(text, stamp) or None)
    )
