"""The properties of a database: owner, grants, settings, connection limit, comment.

pg_dump saves these only with --create, and a swap by rename would lose them. Backups save them in
a separate file, and restores apply them to the side database.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from psycopg2 import sql

from pgtasks.errors import Failed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection

# Their values are lists of quoted names: PostgreSQL's GUC_LIST_QUOTE variables
# (variable_is_guc_list_quote in src/include/utils/guc.h).
NAME_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
)
# Settings that decide which code a session runs at its start: libraries, role and search_path.
LEADING_SETTINGS = (
    *("session_preload_libraries", "local_preload_libraries", "dynamic_library_path"),
    *("role", "session_authorization", "session_replication_role", "search_path"),
)
# If the server lacks such a library, no session can start.
PRELOADING = ("session_preload_libraries", "local_preload_libraries")
# These would make the load fail, so the swap applies them.
LATE_SETTINGS = ("default_transaction_read_only",)

_PRIVILEGES = ("CONNECT", "CREATE", "TEMPORARY")
Provider = Literal["libc", "icu", "builtin"]


@dataclass(frozen=True)
class Grant:
    """A privilege on the database; an empty grantee is PUBLIC."""

    grantee: str
    privilege: Literal["CONNECT", "CREATE", "TEMPORARY"]
    grantable: bool = False


@dataclass(frozen=True)
class Setting:
    """A setting of the database, or of one role in it."""

    name: str
    value: str
    role: str = ""


@dataclass(frozen=True)
class DatabaseProperties:
    """The options of CREATE DATABASE and ALTER DATABASE; `grants` is None for the default ones.

    `provider` is libc, icu or builtin; `owners` own objects in the database, `roles` are the owners
    and all roles with privileges.
    """

    name: str
    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: Provider = "libc"
    locale: str = ""
    icu_rules: str = ""
    connection_limit: int = -1
    comment: str = ""
    tablespace: str = "pg_default"
    grants: tuple[Grant, ...] | None = None
    settings: tuple[Setting, ...] = ()
    roles: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    template: bool = False

    def __post_init__(self) -> None:
        if not -2 <= self.connection_limit < 2**31:
            raise ValueError(f"connection limit {self.connection_limit}")

    def locale_of(self) -> tuple[str, ...]:
        """Return what decides the order of texts."""
        return (self.collate, self.ctype, self.provider, self.locale, self.icu_rules)

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a JSON document."""
        return dataclasses.asdict(self)

    @classmethod
    def parse(cls, content: bytes, where: str) -> DatabaseProperties:
        """Return the properties of a JSON document; keys of a later version are ignored.

        Raises NotProven for an invalid document; `where` begins the message.
        """
        from pgtasks.host import decoding

        return decoding.decode(content, cls, where)


def read(conn: Connection, name: str) -> DatabaseProperties:
    """Read the properties of a database of the connection's server, without its stamp."""
    query = _facts_query(conn.server_version)
    properties = connection.rows(conn, query, (name,), into=DatabaseProperties)[0]
    return replace(
        properties,
        comment=stamp.split(properties.comment)[0],
        grants=None if properties.grants is None else _grants(conn, name),
        settings=_settings(conn, name),
        roles=_roles(conn, name, "oai"),
        owners=_roles(conn, name, "o"),
    )


def of_new(
    conn: Connection, name: str, other: DatabaseProperties, *, owner: str
) -> DatabaseProperties:
    """Return the properties of a new database that can hold the content of another one.

    It has the encoding of the other one and its locale, or the server's own if that lacks it. It
    has none of its settings and grants.
    """
    new = DatabaseProperties(name, owner, other.encoding, "C", "C")
    here = read(conn, "template0")
    for model in (other, here):
        is_same = model.locale_of() == here.locale_of() and model.encoding == here.encoding
        if is_same or (model is other and has_locale(conn, other)):
            return replace(
                new,
                collate=model.collate,
                ctype=model.ctype,
                provider=model.provider,
                locale=model.locale,
                icu_rules=model.icu_rules,
            )
    return new


def has_locale(conn: Connection, facts: DatabaseProperties) -> bool:
    """Return whether the server has the locale of a database of another server."""
    provider, locale = "libc", facts.collate
    if facts.provider != "libc":
        provider, locale = facts.provider, facts.locale
    statement = sql.SQL("CREATE COLLATION pg_temp.{} (PROVIDER = {}, LOCALE = {})").format(
        sql.Identifier("attempt"), sql.SQL(provider), sql.Literal(locale)
    )
    connection.execute(conn, "BEGIN")
    try:
        connection.execute(conn, statement)
    except Failed:
        return False
    finally:
        connection.execute(conn, "ROLLBACK")
    return True


def owner(conn: Connection, name: str) -> str:
    """Return the owner of a database."""
    query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    return connection.row(conn, query, (name,), into=str) or ""


def _facts_query(server_version: int) -> str:
    locale = "NULL"  # column names: pg_database of 14, 15, 17
    if server_version >= 170000:
        locale = "d.datlocale"
    elif server_version >= 150000:
        locale = "d.daticulocale"
    rules = "d.daticurules" if server_version >= 160000 else "NULL"
    provider = "d.datlocprovider" if server_version >= 150000 else "'c'"
    return f"""
SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
  pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS "collate", d.datctype AS ctype,
  CASE {provider} WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END AS provider,
  coalesce({locale}, '') AS locale, coalesce({rules}, '') AS icu_rules,
  -- -2: an interrupted DROP left it
  greatest(d.datconnlimit, -1) AS connection_limit,
  coalesce({stamp.comment("d")}, '') AS comment, t.spcname AS tablespace,
  CASE WHEN d.datacl IS NOT NULL THEN ARRAY[]::text[] END AS grants, d.datistemplate AS template
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s"""


def _grants(conn: Connection, name: str) -> tuple[Grant, ...]:
    grants = connection.rows(
        conn,
        "SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END AS grantee,"
        " a.privilege_type AS privilege, a.is_grantable AS grantable"
        " FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s ORDER BY 1, 2",
        (name,),
        into=Grant,
    )
    return tuple(grants)


def _settings(conn: Connection, name: str) -> tuple[Setting, ...]:
    rows = connection.rows(
        conn,
        "SELECT unnest(s.setconfig), coalesce(r.rolname, '')"
        " FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = %s ORDER BY 2, 1",
        (name,),
        into=tuple[str, str],
    )
    parted = ((text.partition("="), role) for text, role in rows)
    return tuple(Setting(key, value, role) for (key, _, value), role in parted)


def _roles(conn: Connection, name: str, kinds: str) -> tuple[str, ...]:
    """Return the roles that objects in the database depend on, except predefined ones.

    `kinds` are letters of pg_shdepend.deptype: o owns, a may use, i may use from the start.
    """
    roles = connection.rows(
        conn,
        "SELECT DISTINCT r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid"
        " JOIN pg_database d ON d.oid = s.dbid AND d.datname = %s"
        " WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname !~ '^pg_'"
        " AND s.deptype::text = ANY(%s) ORDER BY 1",
        (name, list(kinds)),
        into=str,
    )
    return tuple(roles)


def create_statement(
    name: str,
    facts: DatabaseProperties,
    *,
    template: str,
    owner: str,
    server_version: int,
    by_file: bool = False,
) -> sql.Composed:
    """Return CREATE DATABASE with the encoding and locale of the properties.

    `by_file` copies the files of the template instead of writing each block into the WAL.
    """
    parts: list[sql.Composable] = [
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING {}").format(
            sql.Identifier(name),
            sql.Identifier(owner),
            sql.Identifier(template),
            sql.Literal(facts.encoding),
        ),
        sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(facts.collate), sql.Literal(facts.ctype)
        ),
    ]
    if server_version >= 150000:
        parts.append(_provider(facts, server_version))
    if facts.tablespace != "pg_default":
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(facts.tablespace)))
    if by_file and server_version >= 150000:  # older ones know no other way
        parts.append(sql.SQL("STRATEGY file_copy"))
    return sql.SQL(" ").join(parts)


def _provider(facts: DatabaseProperties, server_version: int) -> sql.Composable:
    if facts.provider == "icu":
        rules = sql.SQL(" ICU_RULES {}").format(sql.Literal(facts.icu_rules))
        icu = sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(facts.locale))
        return icu + rules if facts.icu_rules else icu
    if facts.provider == "builtin" and server_version >= 170000:
        return sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(
            sql.Literal(facts.locale)
        )
    return sql.SQL("LOCALE_PROVIDER libc")


def leads(setting: Setting) -> bool:
    """Whether a setting of an untrusted backup could affect a role or run code."""
    return bool(setting.role) or setting.name.lower() in LEADING_SETTINGS


def laying_statements(name: str, facts: DatabaseProperties) -> list[sql.Composed]:
    """Return the statements that apply grants and settings, without LATE_SETTINGS.

    The owner grants the privileges: other grantors are not preserved, because only a session as
    that role could do so.
    """
    return [
        *access_statements(name, facts),
        *(
            setting_statement(name, setting)
            for setting in facts.settings
            if setting.name not in LATE_SETTINGS
        ),
    ]


def access_statements(name: str, facts: DatabaseProperties) -> list[sql.Composed]:
    """Return the statements that set a new database's access list, unless it is the default."""
    if facts.grants is None:
        return []
    close = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
    granted = [grant for grant in facts.grants if grant.grantee != facts.owner]
    return [close, *(_grant(name, grant) for grant in granted)]


def owner_statements(name: str, facts: DatabaseProperties) -> list[sql.Composed]:
    """Return the statements that set the owner's own privileges, if not all are granted."""
    own = [grant for grant in facts.grants or () if grant.grantee == facts.owner]
    kept = {grant.privilege for grant in own if not grant.grantable}
    if facts.grants is None or kept == set(_PRIVILEGES):
        return []
    close = sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(
        sql.Identifier(name), sql.Identifier(facts.owner)
    )
    return [close, *(_grant(name, grant) for grant in own)]


def _grant(name: str, grant: Grant) -> sql.Composed:
    grantee = sql.Identifier(grant.grantee) if grant.grantee else sql.SQL("PUBLIC")
    return sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
        sql.SQL(grant.privilege),
        sql.Identifier(name),
        grantee,
        sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
    )


def _subject(name: str, role: str) -> sql.Composed:
    database = sql.Identifier(name)
    if role:
        return sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    return sql.SQL("DATABASE {}").format(database)


def reset_statement(name: str, role: str = "", setting: str = "") -> sql.Composed:
    """Return the statement that resets a setting of a database, or all settings of a role in it."""
    parameter = _parameter(setting) if setting else sql.SQL("ALL")
    return sql.SQL("ALTER {} RESET {}").format(_subject(name, role), parameter)


def _parameter(name: str) -> sql.Composed:
    return sql.SQL(".").join(map(sql.Identifier, name.split(".")))


def setting_statement(name: str, setting: Setting) -> sql.Composed:
    """Return the ALTER statement of one setting, with each name of a list quoted."""
    value: sql.Composable = sql.Literal(setting.value)
    if setting.name.lower() in NAME_LISTS:
        value = sql.SQL(", ").join(map(sql.Literal, split_names(setting.value)))
    return sql.SQL("ALTER {} SET {} TO {}").format(
        _subject(name, setting.role), _parameter(setting.name), value
    )


def late_statements(name: str, facts: DatabaseProperties) -> list[sql.Composed]:
    """Return the statements for the swap itself, which would stop a load or a drop before it."""
    as_template = sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name))
    return [
        *owner_statements(name, facts),
        *(
            setting_statement(name, setting)
            for setting in facts.settings
            if setting.name in LATE_SETTINGS
        ),
        *([as_template] if facts.template else []),
    ]


def split_names(text: str) -> list[str]:
    """Split a list of names as the server stores it: `"$user", public`."""
    matches = re.findall(r'"((?:[^"]|"")*)"|([^,\s"]+)', text)
    names = [quoted.replace('""', '"') or plain for quoted, plain in matches]
    return names or [""]
