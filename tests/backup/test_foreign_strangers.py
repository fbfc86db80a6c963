"""Hostile dumps: none leads out of its side database, runs a program here, or fills a disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from restores import logins, sides
from servers import Cluster

from pgtasks.backup.foreign import dump as dumps
from pgtasks.backup.foreign import examine, form, packing, reach, reading
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.server.psql.statements import Command, Rows, Statement, Statements

Inv = Callable[..., Any]


class Site:
    """A database of a plain owner, to which a superuser restores, and its project."""

    def __init__(self, cluster: Cluster, owner: str, folder: Path) -> None:
        self.cluster, self.owner, self.folder = cluster, owner, folder
        self.name = cluster.create()
        cluster.execute(f'ALTER DATABASE "{self.name}" OWNER TO {owner}')
        cluster.execute("CREATE TABLE precious (n int); INSERT INTO precious VALUES (1)", self.name)
        put_stamp(cluster.target(self.name))
        self.project = make_project(folder / "site", cluster.url(self.name))

    def given(self, text: str | bytes, name: str = "given.sql") -> str:
        """Write a dump, and return its path."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def intact(self) -> None:
        """Assert that nothing was changed, and nothing is left."""
        assert self.cluster.value("SELECT n FROM precious", self.name) == 1
        assert not sides(self.cluster, self.name)
        assert not logins(self.cluster, self.name)
        assert not list(self.folder.rglob("pwned*"))
        assert not list(self.cluster.folder.rglob("pwned*"))


@pytest.fixture
def site(cluster: Cluster, plain_owner: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(cluster, plain_owner, tmp_path)
    yield site
    cluster.drop(site.name)


OUTSIDE = {
    r"\! touch pwned": r"\!",
    r"\connect postgres": r"\connect",
    r"\c postgres": r"\connect",
    r"\i other.sql": r"\i",
    r"\ir other.sql": r"\ir",
    r"\o | touch pwned": r"\o",
    r"\o pwned": r"\o",
    r"\copy t from program 'touch pwned'": r"\copy",
    r"\copy t to 'pwned'": r"\copy",
    r"\setenv PGUSER postgres": r"\setenv",
    r"\set x `touch pwned`": r"\set",
    r"\echo `touch pwned`": r"\echo",
    r"\restrict `touch pwned`": r"\restrict",
    r"\cd /": r"\cd",
    r"\w pwned": r"\w",
    r"\watch 1": r"\watch",
    r"\q": r"\q",
    r"\set x y": r"\set",
    "CREATE DATABASE pwned;": "CREATE DATABASE",
    "DROP DATABASE postgres;": "DROP DATABASE",
    "CREATE ROLE pwned SUPERUSER;": "CREATE ROLE",
    "/* x */ ALTER -- y\nUSER postgres PASSWORD 'x';": "ALTER ROLE",
    "GRANT postgres TO pwned;": "GRANT ROLE",
    "ALTER SYSTEM SET archive_command = 'touch pwned';": "ALTER SYSTEM",
    "CREATE TABLESPACE pwned LOCATION '/tmp';": "CREATE TABLESPACE",
    "COPY t FROM PROGRAM 'touch pwned';": "COPY PROGRAM",
    "COPY t TO PROGRAM 'touch pwned';": "COPY PROGRAM",
    "COPY t FROM '/etc/passwd';": "COPY FILE",
    "DROP OWNED BY postgres;": "DROP OWNED",
    "PREPARE TRANSACTION 'x';": "PREPARE TRANSACTION",
    "LOAD 'x';": "LOAD",
}


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_reaches_outside_is_found_by_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sql"
    path.write_text(f"CREATE TABLE t (a text);\n{text}\nSELECT 1;\n")
    with packing.opened(path, "") as stream:
        held = examine.examine(stream, "x.sql", part="", check=lambda size: None)
    assert dict(held.outside) == {OUTSIDE[text]: 2}


@pytest.mark.parametrize(
    "text", [r"SELECT 1 \g | touch pwned", r"SELECT 1 \gexec", "SELECT 1 \\! touch pwned", "x\0;"]
)
def test_what_only_psql_understands_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sql"
    path.write_text(f"{text}\n")
    with packing.opened(path, "") as stream, pytest.raises(Refused, match=r"x\.sql: line 1"):
        examine.examine(stream, "x.sql", part="", check=lambda size: None)


def test_what_reaches_outside_is_refused_or_left_out(site: Site, inv: Inv) -> None:
    text = "\\connect postgres\nCREATE DATABASE pwned;\nALTER SYSTEM SET work_mem = '1GB';\n"
    path = site.given(f"CREATE TABLE t (n int);\n{text}\\! touch pwned\n")
    plain = ("db.restore", "--backup", path)
    done = inv(*plain, cwd=site.project)
    assert done.returncode == 2, done.stderr
    for name in ("'\\connect'", "'CREATE DATABASE'", "'ALTER SYSTEM'", "'\\!'"):
        assert f"--leave-out {name}" in done.stderr
    site.intact()
    flags = ("--leave-out", "\\connect", "--leave-out", "CREATE DATABASE")
    flags += ("--leave-out", "ALTER SYSTEM", "--leave-out", "\\!")
    done = inv(*plain, *flags, cwd=site.project)
    assert done.returncode == 2
    assert f"add --confirm {site.name}" in done.stderr
    done = inv(*plain, *flags, "--confirm", site.name, cwd=site.project)
    assert done.returncode == 0, done.stderr
    assert "left out: ALTER SYSTEM, which reaches out of the database" in done.stdout
    assert "missing there" not in done.stdout
    assert "pwned" not in site.cluster.databases()
    assert not list(site.folder.rglob("pwned*"))


# each is tried alone; what the server refuses, or what cannot be more than the owner may
PLANTED = {
    "a program by a function": "DO $$ BEGIN EXECUTE 'COPY t FROM PROGRAM ''touch pwned'''; END $$;",
    "a file of the server": "SELECT pg_read_file('/etc/passwd');",
    "a file as a large object": "SELECT lo_import('/etc/passwd');",
    "an extension that leads out": "CREATE EXTENSION dblink;",
    "a wrapper": "CREATE FOREIGN DATA WRAPPER w;",
    "an event trigger": (
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e();"
    ),
    "a subscription": (
        "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false);"
    ),
    "a role by a function": "DO $$ BEGIN EXECUTE 'CREATE ROLE pwned'; END $$;",
    "becoming a superuser": (
        "RESET ROLE; RESET SESSION AUTHORIZATION; SET ROLE NONE;"
        "SELECT set_config('role', 'postgres', false);"
    ),
    "becoming the session's user": "SELECT set_config('session_authorization', 'postgres', false);",
    "another database, behind a block": (
        "DO $$ BEGIN COMMIT; EXECUTE 'CREATE DATABASE pwned'; END $$;"
    ),
    "an untrusted language": (
        "CREATE FUNCTION c() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'getpid';"
    ),
    "a database behind quotes that end elsewhere": (
        "SET standard_conforming_strings = off;\nSELECT '\\'; CREATE DATABASE pwned; --';\n"
        "SELECT 1/0;"
    ),
    "a dump that ends the block by a procedure": (
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'; CALL p();"
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_a_dump_may_not_do_stops_it(planted: str, site: Site, inv: Inv) -> None:
    path = site.given(f"CREATE TABLE t (a text);\n{PLANTED[planted]}\n")
    before = site.cluster.execute("SELECT rolname, rolsuper FROM pg_roles ORDER BY 1")
    done = inv("db.restore", "--backup", path, cwd=site.project)
    assert done.returncode in (1, 2), done.stderr
    site.intact()
    assert site.cluster.execute("SELECT rolname, rolsuper FROM pg_roles ORDER BY 1") == before
    assert "pwned" not in site.cluster.databases()


def test_a_role_that_is_set_is_left_out(site: Site, inv: Inv) -> None:
    text = (
        "SET SESSION AUTHORIZATION 'postgres';\nSET ROLE none;\nCREATE TABLE t (n int);\n"
        "ALTER TABLE t OWNER TO postgres;\nGRANT ALL ON t TO nobody_here;\nRESET ROLE;\n"
        "COMMENT ON DATABASE postgres IS 'pwned';\n"
    )
    done = inv("db.restore", "--backup", site.given(text), cwd=site.project)
    assert done.returncode == 0, done.stderr
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'"
    assert site.cluster.value(owner, site.name) == site.owner
    assert "not applied: COMMENT ON DATABASE" in done.stdout
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    assert site.cluster.value(comment, parameters=("postgres",)) != "pwned"
    assert not logins(site.cluster, site.name)


def test_backslashes_in_strings_of_old_dumps(site: Site, inv: Inv) -> None:
    text = (
        "SET standard_conforming_strings = off;\nSET escape_string_warning = off;\n"
        "CREATE TABLE t (a text);\nINSERT INTO t VALUES ('it\\'s; \\\\connect');\n"
        "INSERT INTO t VALUES ('\\\\'); INSERT INTO t VALUES (';');\n"
    )
    done = inv("db.restore", "--backup", site.given(text), cwd=site.project)
    assert done.returncode == 0, done.stderr
    found = site.cluster.execute("SELECT a FROM t ORDER BY a", site.name)
    assert {text for (text,) in found} == {"it's; \\connect", "\\", ";"}


def test_an_encoding_whose_characters_hold_a_backslash(site: Site, inv: Inv) -> None:
    # the second byte of 表 is a backslash in it, and our lexer must not take it for one
    text = (
        "SET client_encoding = 'SJIS';\nCREATE TABLE t (a text);\n"
        "INSERT INTO t VALUES (E'表');\nINSERT INTO t VALUES ('\\! 表');\n"
        "COPY t (a) FROM stdin;\n表\n\\.\n"
    )
    done = inv("db.restore", "--backup", site.given(text.encode("cp932")), cwd=site.project)
    assert done.returncode == 0, done.stderr
    assert site.cluster.value("SELECT count(*) FROM t WHERE a LIKE '%表'", site.name) == 3


def test_rows_of_a_query_are_not_kept(site: Site, inv: Inv) -> None:
    text = "CREATE TABLE t (n int);\nSELECT repeat('x', 1000) FROM generate_series(1, 300000);\n"
    done = inv("db.restore", "--backup", site.given(text), cwd=site.project)
    assert done.returncode == 0, done.stderr


def test_a_part_of_a_whole_server(site: Site, inv: Inv) -> None:
    text = (
        "-- PostgreSQL database cluster dump\nCREATE ROLE pwned;\n"
        "\\connect template1\n-- PostgreSQL database dump\nCREATE TABLE no (n int);\n"
        "-- PostgreSQL database dump complete\n"
        '-- PostgreSQL database dump\nCREATE DATABASE "my shop";\n'
        "\\connect -reuse-previous=on \"dbname='my shop'\"\n"
        "CREATE TABLE yes (n int);\nCOPY yes FROM stdin;\n7\n\\.\n"
        "-- PostgreSQL database dump complete\n-- PostgreSQL database cluster dump complete\n"
    )
    path = site.given(text)
    done = inv("db.restore", "--backup", path, cwd=site.project)
    assert done.returncode == 2
    assert "of a whole server (pg_dumpall): --part NAME" in done.stderr
    assert "'template1', 'my shop'" in done.stderr
    done = inv("db.restore", "--backup", path, "--part", "other", cwd=site.project)
    assert done.returncode == 2
    done = inv("db.restore", "--backup", path, "--part", "my shop", cwd=site.project)
    assert done.returncode == 0, done.stderr
    assert site.cluster.value("SELECT n FROM yes", site.name) == 7
    assert site.cluster.value("SELECT to_regclass('no')", site.name) is None


def test_a_real_dump_of_a_whole_server(site: Site, inv: Inv) -> None:
    place = {"PGHOST": site.cluster.host, "PGPORT": str(site.cluster.port), "PGUSER": "postgres"}
    path = site.folder / "all.sql"
    with path.open("wb") as out:
        subprocess.run(
            [site.cluster.bin / "pg_dumpall"], env={**os.environ, **place}, stdout=out, check=True
        )
    done = inv("db.restore", "--backup", str(path), "--part", site.name, cwd=site.project)
    assert done.returncode == 0, done.stderr
    assert "1 table, 1 row, as many as the dump has" in done.stdout


def test_a_bomb_ends_before_the_disk_is_full(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "bomb.sql.gz"
    zeros = subprocess.run(
        "(echo 'COPY t FROM stdin;'; head -c 400M /dev/zero | tr '\\0' x) | gzip -1",
        shell=True,
        capture_output=True,
        check=True,
    ).stdout
    path.write_bytes(zeros)
    found = form.look(path)
    assert found is not None
    dump = dumps.of(found)
    from pgtasks.report import Console

    with pytest.raises(Refused, match="unpacks to more than"):
        reading._examined(dump, 10 << 20, Console(quiet=True))
    # an archive goes to a temporary file, which ends at the floor of its disk
    inner = tmp_path / "bomb.dump.gz"
    made = subprocess.run(
        "(printf 'PGDMP'; head -c 400M /dev/zero) | gzip -1",
        shell=True,
        capture_output=True,
        check=True,
    ).stdout
    inner.write_bytes(made)
    monkeypatch.setattr(reading, "FLOOR", 1 << 60)
    packed = form.look(inner)
    assert packed is not None
    with (
        pytest.raises(Failed, match="unpacks to more than 67 MB"),
        reading._unpacked(dumps.of(packed), Console(quiet=True)),
    ):
        pass
    assert not list(Path(os.environ["TMPDIR"]).glob("pgtasks-run-*/dump"))


def test_rows_and_statements_are_parted_at_any_boundary() -> None:
    import io
    import random

    text = (
        b"SET a = 1; SELECT 1;\nCREATE FUNCTION f() RETURNS void AS $x$\n\\! ls\n$x$;\n"
        b"COPY a (x) FROM stdin;\n\\N\tx\n\\! touch\n\\.x\na\\.\n\\.\nCOPY b FROM stdin;\n\\.\n"
        b"\\connect foo\nSELECT E'\\'; ' || 'x\ny;';\nselect 1"
    )

    class Pieces:
        def __init__(self, seed: int) -> None:
            self.data, self.random = text, random.Random(seed)

        def read(self, size: int, /) -> bytes:
            count = self.random.randint(1, 7)
            piece, self.data = self.data[:count], self.data[count:]
            return piece

    def found(stream: Any) -> list[Any]:
        parts: list[Any] = []
        for item in Statements(stream):
            if isinstance(item, Rows):
                rows = b""
                while chunk := item.read():
                    rows += chunk
                parts.append((item.line, rows, item.lines))
            else:
                parts.append(item)
        return parts

    whole = found(io.BytesIO(text))
    assert (5, b"\\N\tx\n\\! touch\n\\.x\na\\.\n", 4) in whole
    assert (11, b"", 0) in whole
    assert Command(13, "connect", b"\\connect foo") in whole
    assert whole[-1] == Statement(16, b"select 1")
    for seed in range(200):
        assert found(Pieces(seed)) == whole


@pytest.mark.parametrize(
    "text",
    [
        b"COPY t FROM stdin;\n1\n2\n",
        b"CREATE FUNCTION f() AS $$ a\n",
        b"SELECT 'a;\n",
        b"/* a\n",
    ],
)
def test_what_ends_in_the_middle_is_cut(text: bytes) -> None:
    import io

    with pytest.raises(NotProven, match="it is cut"):
        for _ in Statements(io.BytesIO(text)):
            pass


@pytest.mark.parametrize("end", ["", "-- PostgreSQL database dump complete\n"])
def test_an_end_mark_counts_between_statements_alone(end: str) -> None:
    import io

    mark = "-- PostgreSQL database dump complete\n"
    text = (
        f"-- PostgreSQL database dump\nCREATE FUNCTION f() RETURNS text AS $$\n{mark}$$;\n"
        f"SELECT '\n{mark}';\n/*\n{mark}*/\nCOPY t FROM stdin;\n{mark}\\.\n{end}"
    )
    stream = io.BytesIO(text.encode())
    if end:
        assert examine.examine(stream, "x", part="", check=lambda size: None).whole
        return
    with pytest.raises(NotProven, match="x is cut: pg_dump ends a dump with the line"):
        examine.examine(stream, "x", part="", check=lambda size: None)


def test_roles_of_statements() -> None:
    assert reach.roles(b'ALTER TABLE a.b OWNER TO "The Owner";') == (("The Owner",), ())
    assert reach.roles(b"GRANT SELECT ON TABLE a TO bob, carl;") == ((), ("bob", "carl"))
    assert reach.roles(b"ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT ALL ON TABLES TO b;") == (
        (),
        ("a", "b"),
    )
