"""What belongs to a database beside its content: owner, grants, settings, limit, comment.

pg_dump saves these only with --create, and a swap by rename would lose them: backups keep them in
a file of their own, and restores lay them on the side database.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg2 import sql

from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection

# Their values are lists of names, each quoted for itself: PostgreSQL's GUC_LIST_QUOTE variables
# (variable_is_guc_list_quote in src/include/utils/guc.h).
NAME_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
)
# What decides which code a session runs before anything of its own: libraries, and whose rights
# and names it begins with.
LEADING_SETTINGS = (
    *("session_preload_libraries", "local_preload_libraries", "dynamic_library_path"),
    *("role", "session_authorization", "session_replication_role", "search_path"),
)
# A library that is not here lets nobody in.
PRELOADING = ("session_preload_libraries", "local_preload_libraries")
# It would make the load itself fail, so it arrives with the swap.
LATE_SETTINGS = ("default_transaction_read_only",)

_PRIVILEGES = ("CONNECT", "CREATE", "TEMPORARY")
Provider = Literal["libc", "icu", "builtin"]
_PROVIDERS: Mapping[str, Provider] = {"c": "libc", "i": "icu", "b": "builtin"}


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
class DatabaseFacts:
    """What CREATE DATABASE and ALTER DATABASE say; `grants` is None where they are the default.

    `provider` is libc, icu or builtin; `owners` own something inside, `roles` are they and all
    that may use something.
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

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a JSON document."""
        return dataclasses.asdict(self)

    @classmethod
    def parse(cls, content: bytes, where: str) -> DatabaseFacts:
        """Return the facts of a JSON document; keys of a later version are left out.

        Raises NotProven for one that holds anything else; `where` opens the error.
        """
        from pgtasks.host import decoding

        return decoding.decode(content, cls, where)


def read(conn: Connection, name: str) -> DatabaseFacts:
    """Read the facts of one database of the connection's server, the stamp left out."""
    row = connection.rows(conn, _facts_query(conn.server_version), (name,))[0]
    owner, encoding, collate, ctype, provider, locale, rules, limit, *rest = row
    comment, space, granted, template = rest
    return DatabaseFacts(
        name=name,
        owner=owner,
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        provider=_PROVIDERS[provider],
        locale=locale or "",
        icu_rules=rules or "",
        connection_limit=max(limit, -1),  # -2: an interrupted DROP left it
        comment=stamp.split(comment)[0],
        tablespace=space,
        grants=_grants(conn, name) if granted else None,
        settings=_settings(conn, name),
        roles=_roles(conn, name, "oai"),
        owners=_roles(conn, name, "o"),
        template=template,
    )


def owner(conn: Connection, name: str) -> str:
    """Return the role that owns a database."""
    found = connection.value(
        conn, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)
    )
    return str(found or "")


def _facts_query(server_version: int) -> str:
    locale = "NULL::text"  # column names: pg_database of 14, 15, 17
    if server_version >= 170000:
        locale = "d.datlocale"
    elif server_version >= 150000:
        locale = "d.daticulocale"
    rules = "d.daticurules" if server_version >= 160000 else "NULL::text"
    provider = "d.datlocprovider" if server_version >= 150000 else "'c'"
    return (
        "SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate,"
        f" d.datctype, {provider}, {locale}, {rules}, d.datconnlimit,"
        f" {stamp.comment('d')}, t.spcname, d.datacl IS NOT NULL,"
        " d.datistemplate"
        " FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace"
        " WHERE d.datname = %s"
    )


def _grants(conn: Connection, name: str) -> tuple[Grant, ...]:
    found = connection.rows(
        conn,
        "SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,"
        " a.privilege_type, a.is_grantable FROM pg_database d, aclexplode(d.datacl) a"
        " WHERE d.datname = %s ORDER BY 1, 2",
        (name,),
    )
    return tuple(Grant(*row) for row in found)


def _settings(conn: Connection, name: str) -> tuple[Setting, ...]:
    found = connection.rows(
        conn,
        "SELECT unnest(s.setconfig), coalesce(r.rolname, '')"
        " FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = %s ORDER BY 2, 1",
        (name,),
    )
    parted = ((text.partition("="), role) for text, role in found)
    return tuple(Setting(key, value, role) for (key, _, value), role in parted)


def _roles(conn: Connection, name: str, kinds: str) -> tuple[str, ...]:
    """Return the roles that something in the database depends on, but for built-in ones.

    `kinds` are letters of pg_shdepend.deptype: o owns, a may use, i may use from the start.
    """
    found = connection.rows(
        conn,
        "SELECT DISTINCT r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid"
        " JOIN pg_database d ON d.oid = s.dbid AND d.datname = %s"
        " WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname !~ '^pg_'"
        " AND s.deptype::text = ANY(%s) ORDER BY 1",
        (name, list(kinds)),
    )
    return tuple(row[0] for row in found)


def create_statement(
    name: str, facts: DatabaseFacts, *, template: str, owner: str, server_version: int
) -> sql.Composed:
    """Return CREATE DATABASE with the facts' encoding and locale."""
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
    return sql.SQL(" ").join(parts)


def _provider(facts: DatabaseFacts, server_version: int) -> sql.Composable:
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
    """Return whether a stranger's setting would lead sessions of others: of a role, or of code."""
    return bool(setting.role) or setting.name.lower() in LEADING_SETTINGS


def laying_statements(name: str, facts: DatabaseFacts) -> list[sql.Composed]:
    """Return what lays grants and settings on the new database `name`, LATE_SETTINGS left out.

    Grants are laid by the owner: a grantor of another name is not carried over (PostgreSQL has
    no way but to act as that role).
    """
    return [
        *access_statements(name, facts),
        *(
            setting_statement(name, setting)
            for setting in facts.settings
            if setting.name not in LATE_SETTINGS
        ),
    ]


def access_statements(name: str, facts: DatabaseFacts) -> list[sql.Composed]:
    """Return what makes a new database's access list the facts'; a default one is the default."""
    if facts.grants is None:
        return []
    close = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
    granted = [grant for grant in facts.grants if grant.grantee != facts.owner]
    return [close, *(_grant(name, grant) for grant in granted)]


def owner_statements(name: str, facts: DatabaseFacts) -> list[sql.Composed]:
    """Return what gives the owner the privileges that he has of his own, where not all."""
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
    """Return what takes a setting of a database away, or all, or those of one role in it."""
    what = _parameter(setting) if setting else sql.SQL("ALL")
    return sql.SQL("ALTER {} RESET {}").format(_subject(name, role), what)


def _parameter(name: str) -> sql.Composed:
    return sql.SQL(".").join(map(sql.Identifier, name.split(".")))


def setting_statement(name: str, setting: Setting) -> sql.Composed:
    """Return the ALTER statement of one setting, its list of names quoted as names."""
    value: sql.Composable = sql.Literal(setting.value)
    if setting.name.lower() in NAME_LISTS:
        value = sql.SQL(", ").join(map(sql.Literal, split_names(setting.value)))
    return sql.SQL("ALTER {} SET {} TO {}").format(
        _subject(name, setting.role), _parameter(setting.name), value
    )


def late_statements(name: str, facts: DatabaseFacts) -> list[sql.Composed]:
    """Return what of the facts goes into the swap itself: what would stop a load, or a drop."""
    mark = sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name))
    return [
        *owner_statements(name, facts),
        *(
            setting_statement(name, setting)
            for setting in facts.settings
            if setting.name in LATE_SETTINGS
        ),
        *([mark] if facts.template else []),
    ]


def split_names(text: str) -> list[str]:
    """Split a list of names as the server stores it: `"$user", public`."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^,\s"]+)', text)
    names = [quoted.replace('""', '"') or plain for quoted, plain in found]
    return names or [""]
