"""The dumps of anybody: recognized by content, read to their end, restored with an undo."""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from halting import halted, unlocked
from projects import make_project, put_stamp
from restores import logins, sides
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.backup.foreign import dump as dumps
from pgtasks.backup.foreign import form as form_of
from pgtasks.schema.inspect.diff.change import Change
from pgtasks.settings.target import Target

Inv = Callable[..., Any]

CONTENT = r"""
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood);
CREATE TABLE "odd schema"."it's 🐘" (n int REFERENCES people, "t" text CHECK (t <> ''));
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'ok';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM people;
CREATE TABLE parts (id int, note text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE blank ();
CREATE FUNCTION faked() RETURNS text LANGUAGE sql AS $f$
SELECT '
--
-- PostgreSQL database dump complete
--

\! touch pwned
'::text $f$;
CREATE FUNCTION body(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n; SELECT 1; END;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO people (name, mood) SELECT 'name ' || i, 'ok' FROM generate_series(1, 1000) i;
INSERT INTO "odd schema"."it's 🐘" VALUES (1, E'\\.'), (2, E'\\! touch pwned'), (3, E'a\n\\.\nb'),
  (4, E'tab\there'), (5, '-- PostgreSQL database dump complete'), (6, E'\r\n'),
  (7, '$$;'), (8, '''');
INSERT INTO parts SELECT i, 'x' FROM generate_series(1, 9) i;
SELECT lo_from_bytea(4711, decode(repeat('deadbeef', 9000), 'hex'));
COMMENT ON TABLE people IS E'two\nlines; with '' a quote';
REFRESH MATERIALIZED VIEW counted;
"""
ROWS = 1000 + 8 + 9


def tool(cluster: Cluster, name: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run a tool of a cluster's version on it."""
    place = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser}
    done = subprocess.run(
        [cluster.bin / name, *args], env={**os.environ, **place}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def schema_of(cluster: Cluster, database: str) -> str:
    """Return what pg_dump prints of a database, without what differs each time."""
    printed = tool(cluster, "pg_dump", "--no-owner", "--no-acl", database).stdout.decode()
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", printed)


class Shop:
    """A database with content, one to restore into, and its project."""

    def __init__(self, cluster: Cluster, source: str, owner: str, folder: Path) -> None:
        self.cluster, self.source, self.owner, self.folder = cluster, source, owner, folder
        self.name = cluster.create()
        cluster.execute(f'ALTER DATABASE "{self.name}" OWNER TO {owner}')
        put_stamp(cluster.target(self.name))
        self.project = make_project(folder / "shop", cluster.url(self.name))

    def dump(self, *flags: str, name: str = "given") -> Path:
        """Make a dump of the source with pg_dump."""
        path = self.folder / name
        tool(self.cluster, "pg_dump", f"--file={path}", *flags, self.source)
        return path

    def text(self, content: str | bytes, name: str = "given.sql") -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    @property
    def whole(self) -> bool:
        """Whether the restored database is the source's equal."""
        same = schema_of(self.cluster, self.name) == schema_of(self.cluster, self.source)
        lo = "SELECT md5(lo_get(4711))"
        return same and self.cluster.value(lo, self.name) == self.cluster.value(lo, self.source)

    @property
    def untouched(self) -> bool:
        """Whether the target is empty as before, and nothing is left beside it."""
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        tables = self.cluster.value(query, self.name)
        left = sides(self.cluster, self.name) + logins(self.cluster, self.name)
        return tables == 0 and not left


def made(cluster: Cluster) -> Iterator[str]:
    source = cluster.create()
    cluster.execute(CONTENT, source)
    yield source
    cluster.drop(source)


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[str]:
    yield from made(cluster)


@pytest.fixture(scope="module")
def source15(cluster15: Cluster) -> Iterator[str]:
    yield from made(cluster15)


@pytest.fixture(scope="module")
def source18(cluster18: Cluster) -> Iterator[str]:
    yield from made(cluster18)


@pytest.fixture
def shop(cluster: Cluster, source: str, plain_owner: str, tmp_path: Path) -> Iterator[Shop]:
    """Return a database of a plain owner, to which a superuser restores."""
    shop = Shop(cluster, source, plain_owner, tmp_path)
    yield shop
    cluster.drop(shop.name)


def packed(path: Path, ending: str) -> Path:
    """Compress a file by the program or the library of an ending."""
    data = path.read_bytes()
    library = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    if ending in library:
        content = library[ending](data)
    else:
        program = {"zst": "zstd", "lz4": "lz4"}[ending]
        if shutil.which(program) is None:
            pytest.skip(f"no program {program}")
        content = subprocess.run([program, "-c", path], capture_output=True, check=True).stdout
    found = path.with_name("any name")
    found.write_bytes(content)
    return found


def plainly_packed(shop: Shop, *, ending: str) -> Path:
    """Make a compressed plain dump."""
    return packed(shop.dump(), ending)


FORMS: dict[str, Callable[[Shop], Path]] = {
    "plain": lambda shop: shop.dump(),
    "inserts": lambda shop: shop.dump("--column-inserts", "--rows-per-insert=7"),
    "clean": lambda shop: shop.dump("--clean"),
    "custom": lambda shop: shop.dump("-Fc"),
    "custom -Z0": lambda shop: shop.dump("-Fc", "-Z0"),
    "directory": lambda shop: shop.dump("-Fd"),
    "tar": lambda shop: shop.dump("-Ft"),
    "custom.gz": lambda shop: packed(shop.dump("-Fc"), "gz"),
    "tar.xz": lambda shop: packed(shop.dump("-Ft"), "xz"),
    **{
        f"plain.{ending}": functools.partial(plainly_packed, ending=ending)
        for ending in ("gz", "bz2", "xz", "zst", "lz4")
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dump_of_any_form_is_restored(form: str, shop: Shop, inv: Inv) -> None:
    path = FORMS[form](shop)
    done = inv("db.restore", "--backup", str(path), "--json", cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert shop.whole
    said = json.loads(done.stdout)
    assert said["rows_restored"] == ROWS
    assert not said["proven"]
    assert any("values of the rows" in line for line in said["unproven"])
    as_many = form not in ("inserts",)
    assert ("as many as the dump has" in said["sentence"]) == as_many
    assert not logins(shop.cluster, shop.name)
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'people'"
    assert shop.cluster.value(owner, shop.name) == shop.owner
    undone = inv("db.undo", cwd=shop.project)
    assert undone.returncode == 0, undone.stderr
    assert shop.cluster.value("SELECT to_regclass('people')", shop.name) is None


@pytest.mark.parametrize("major", [15, 18])
@pytest.mark.parametrize("flags", [[], ["-Fc"], ["-Fd"], ["-Ft"]], ids=["plain", "c", "d", "t"])
def test_dumps_of_other_versions_are_restored(
    major: int, flags: list[str], request: Any, plain_owner: str, tmp_path: Path, inv: Inv
) -> None:
    cluster: Cluster = request.getfixturevalue(f"cluster{major}")
    source: str = request.getfixturevalue(f"source{major}")
    owner = f"other{os.getpid()}"
    cluster.execute(f"CREATE ROLE {owner} LOGIN")
    shop = Shop(cluster, source, owner, tmp_path)
    try:
        done = inv("db.restore", "--backup", str(shop.dump(*flags)), cwd=shop.project)
        assert done.returncode == 0, done.stderr
        assert shop.whole
    finally:
        cluster.drop(shop.name)
        cluster.execute(f"DROP ROLE {owner}")


def test_a_newer_plain_dump_leaves_unknown_settings_out(
    shop: Shop, cluster18: Cluster, source18: str, inv: Inv
) -> None:
    path = shop.folder / "newer.sql"
    tool(cluster18, "pg_dump", f"--file={path}", source18)
    assert b"SET transaction_timeout" in path.read_bytes()
    done = inv("db.restore", "--backup", str(path), cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "not applied: SET transaction_timeout" in done.stdout
    assert "of PostgreSQL 18, this is 16" in done.stderr


@pytest.mark.parametrize("step", ["restore.loading", "restore.proven"])
def test_a_kill_or_an_interrupt_leaves_the_old_database(
    step: str, shop: Shop, start_inv: Any, inv: Inv
) -> None:
    path = shop.dump()
    for sign, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        run = halted(start_inv, step, "db.restore", "--backup", str(path), cwd=shop.project)
        os.kill(run.pid, sign)
        run.communicate(timeout=PATIENCE)
        assert run.returncode == code
        assert shop.cluster.value("SELECT to_regclass('people')", shop.name) is None
        assert shop.untouched == (sign is signal.SIGINT)
    here = functools.partial(inv, cwd=shop.project)
    done = unlocked(here, "db.restore", "--backup", str(path))
    assert done.returncode == 0, done.stderr
    assert "dropped" in done.stderr  # what the killed run left
    assert shop.whole
    assert len(sides(shop.cluster, shop.name)) == 1


def test_ctrl_c_ends_a_long_statement(shop: Shop, start_inv: Any) -> None:
    path = shop.text("CREATE TABLE t (n int);\nSELECT pg_sleep(600);\n")
    run = start_inv("db.restore", "--backup", str(path), cwd=shop.project)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (%%pg_sleep(600)%%'"
    until(lambda: shop.cluster.value(sleeping) == 1)
    os.kill(run.pid, signal.SIGINT)
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    assert shop.untouched


def test_ctrl_c_ends_a_long_copy(shop: Shop, start_inv: Any) -> None:
    path = shop.text(
        b"CREATE TABLE t (n int);\nCOPY t FROM stdin;\n" + b"1\n" * 30_000_000 + b"\\.\n"
    )
    run = start_inv("db.restore", "--backup", str(path), cwd=shop.project)
    copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 10000"
    until(lambda: shop.cluster.value(copying) == 1)
    os.kill(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130, said
    assert shop.untouched


def test_a_dump_becomes_a_new_database(shop: Shop, inv: Inv) -> None:
    path = str(shop.dump("-Fc"))
    beside = f"{shop.name}_beside"
    try:
        done = inv("db.restore", "--backup", path, "--into", beside, cwd=shop.project)
        assert done.returncode == 0, done.stderr
        assert shop.cluster.value("SELECT count(*) FROM people", beside) == 1000
        assert shop.untouched
    finally:
        shop.cluster.execute(f'DROP DATABASE IF EXISTS "{beside}"')
    shop.cluster.execute(f'DROP DATABASE "{shop.name}"')
    refused = inv("db.restore", "--backup", path, cwd=shop.project)
    assert refused.returncode == 2  # it would belong to the superuser who connects
    flags = ("--as-superuser", "--no-owner", "--confirm", shop.name)
    done = inv("db.restore", "--backup", path, *flags, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "there was no such database before" in done.stdout


def test_flags_without_a_meaning_are_refused(shop: Shop, inv: Inv) -> None:
    plain = str(shop.text("CREATE TABLE t (n int);\n"))
    for flags, words in (
        (("--only-table", "t", "--yes"), "backup.import"),
        (("--masked",), "of no environment whose rules mask it"),
        (("--map-role", "a=b"), "--map-role is for archives of pg_dump"),
        (("--create-roles",), "does not say how its roles are made"),
        (("--no-acl",), "--no-owner leaves grants out of SQL"),
    ):
        done = inv("db.restore", "--backup", plain, *flags, cwd=shop.project)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    archive = str(shop.dump("-Fc", name="one"))
    done = inv("db.restore", "--backup", archive, "--part", "x", cwd=shop.project)
    assert "is of one database, it has no parts" in done.stderr
    done = inv("db.restore", "--part", "x", cwd=shop.project)
    assert "--part 'x' is for a dump of pg_dumpall" in done.stderr
    assert shop.untouched


def test_rows_that_differ_stop_it(shop: Shop, inv: Inv) -> None:
    text = "CREATE TABLE t (n int);\nCOPY t FROM stdin;\n1\n2\n\\.\nDELETE FROM t WHERE n = 1;\n"
    plain = ("db.restore", "--backup", str(shop.text(text)))
    done = inv(*plain, cwd=shop.project)
    assert done.returncode == 5, done.stderr
    assert "table public.t: 2 rows in the dump, 1 restored" in done.stderr
    assert shop.untouched
    flags = ("--accept", "table public.t", "--confirm", shop.name)
    done = inv(*plain, *flags, cwd=shop.project)
    assert done.returncode == 0, done.stderr


def test_rows_are_counted_where_the_search_path_leads(shop: Shop, inv: Inv) -> None:
    """Names without a schema, in a path of several."""
    text = """
CREATE SCHEMA "the shop"; CREATE SCHEMA stock;
CREATE TABLE public.u (n int);
SET search_path TO "$user", stock, "the shop", public;
CREATE TABLE t (n int);
CREATE TABLE "the shop".either (n int);
COPY t FROM stdin;
1
\\.
COPY either FROM stdin;
1
2
\\.
COPY u (n) FROM stdin;
1
2
3
\\.
SELECT set_config('search_path', '"the shop", public', false);
CREATE TABLE t (n int);
COPY t FROM stdin;
1
2
3
4
\\.
"""
    done = inv("db.restore", "--backup", str(shop.text(text)), cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "4 tables, 10 rows, as many as the dump has" in done.stdout
    lost = text.replace("SELECT set_config", 'DELETE FROM "the shop".either;\nSELECT set_config')
    done = inv("db.restore", "--backup", str(shop.text(lost)), cwd=shop.project)
    assert done.returncode == 5, done.stderr
    assert 'table "the shop".either: 2 rows in the dump, 0 restored' in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        'ALTER TABLE nowhere ADD COLUMN "drop zone" int;',
        "ALTER TABLE t ADD CONSTRAINT c CHECK (nothing(n) <> 'drop');",
        "ALTER TABLE t ADD COLUMN more int, OWNER TO nobody_here;",
    ],
)
def test_a_statement_that_only_names_a_drop_or_an_owner_is_not_passed_over(
    statement: str, shop: Shop, inv: Inv
) -> None:
    path = shop.text(f"CREATE TABLE t (n int);\n{statement}\n")
    done = inv("db.restore", "--backup", str(path), "--no-owner", cwd=shop.project)
    assert done.returncode == 1, done.stdout
    assert f"{path}':2: " in done.stderr
    assert shop.untouched


def test_a_dump_that_renames_the_database_is_told(shop: Shop, inv: Inv) -> None:
    """Its owner may do that, so code with the rights of the owner may."""
    owner, moved = f"{shop.name}_owner", f"{shop.name}_moved"
    shop.cluster.execute(f'CREATE ROLE "{owner}" CREATEDB')
    shop.cluster.execute(f'ALTER DATABASE "{shop.name}" OWNER TO "{owner}"')
    rename = f'ALTER DATABASE "{shop.name}" RENAME TO "{moved}"'
    path = shop.text(f"CREATE TABLE t (n int);\nDO $$ BEGIN {rename}; END $$;\n")
    try:
        done = inv("db.restore", "--backup", str(path), cwd=shop.project)
        assert done.returncode == 1, done.stdout
        last = done.stderr.splitlines()[-1]
        assert f"'{shop.name}' was renamed to '{moved}' during the load" in last
        assert "nothing was swapped in" in last
        way = re.search(r"ALTER DATABASE .* RENAME TO \S+", last)
        assert way
        shop.cluster.execute(way[0])
        assert shop.untouched
    finally:
        for name in (moved, shop.name):
            shop.cluster.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        shop.cluster.execute(f'DROP ROLE "{owner}"')


def test_rows_behind_a_command_of_psql_and_a_link(shop: Shop, inv: Inv) -> None:
    text = "CREATE TABLE t (n int);\n\\copy t from stdin\n1\n\\.\n\\echo done\n\\timing\n"
    link = shop.folder / "latest"
    link.symlink_to(shop.text(text))
    done = inv("db.restore", "--backup", str(link), cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "1 table, 1 row, as many" in done.stdout


def test_an_object_that_does_not_load_is_left_out(shop: Shop, inv: Inv) -> None:
    text = (
        "--\n-- Name: t; Type: TABLE; Schema: public; Owner: -\n--\nCREATE TABLE t (n int);\n"
        "--\n-- Name: t_key; Type: CONSTRAINT; Schema: public; Owner: -\n--\n"
        "ALTER TABLE ONLY t ADD CONSTRAINT t_key UNIQUE (nothing);\n"
        "--\n-- Name: u; Type: TABLE; Schema: public; Owner: -\n--\nCREATE TABLE u (n int);\n"
    )
    plain = ("db.restore", "--backup", str(shop.text(text)))
    done = inv(*plain, cwd=shop.project)
    assert done.returncode == 1
    (flag,) = re.findall(r"--leave-out '([^']*)'", done.stderr.splitlines()[-1])
    done = inv(*plain, "--leave-out", flag, "--confirm", shop.name, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert shop.cluster.value("SELECT count(*) FROM u", shop.name) == 0


@pytest.mark.parametrize("flags", [[], ["-Fc"]], ids=["plain", "custom"])
def test_an_owner_that_may_not_own_is_found_before_anything_is_built(
    flags: list[str],
    cluster: Cluster,
    owned: Target,
    plain: Callable[..., str],
    tmp_path: Path,
    inv: Inv,
) -> None:
    other = plain()
    cluster.execute(f"GRANT {other} TO {owned.user}")
    source = cluster.create()
    try:
        cluster.execute(
            f"CREATE SCHEMA own AUTHORIZATION {other}; CREATE TABLE own.t (n int);"
            f"ALTER TABLE own.t OWNER TO {other}",
            source,
        )
        fine, path = tmp_path / "fine", tmp_path / "given"
        tool(cluster, "pg_dump", f"--file={fine}", *flags, source)
        cluster.execute(f"CREATE TABLE u (n int); ALTER TABLE u OWNER TO {other}", source)
        tool(cluster, "pg_dump", f"--file={path}", *flags, source)
    finally:
        cluster.drop(source)
    put_stamp(owned)
    project = make_project(tmp_path / "shop", owned.url())
    asked = ("db.restore", "--backup", str(path))
    strict = inv(*asked, "--keep-owners", cwd=project)
    assert strict.returncode == 2, strict.stderr
    assert f"role '{other}' owns objects in the backup and may not create any" in strict.stderr
    assert "--no-owner" in strict.stderr.splitlines()[-1]
    done = inv(*asked, cwd=project)
    assert done.returncode == 0, done.stderr
    assert f"all objects will belong to '{owned.user}', without grants" in done.stderr
    kept = inv("db.restore", "--backup", str(fine), "--keep-owners", cwd=project)
    assert kept.returncode == 0, kept.stderr
    owner = "SELECT tableowner FROM pg_tables WHERE schemaname = 'own'"
    assert cluster.value(owner, owned.database) == other


def test_roles_of_an_archive_are_given_to_others(
    shop: Shop, plain: Callable[..., str], inv: Inv
) -> None:
    cluster, reader = shop.cluster, plain()
    gone, other = f"gone{os.getpid()}", f"gone reader {os.getpid()}"
    cluster.execute(f'CREATE ROLE {gone}; CREATE ROLE "{other}"')
    source, path = cluster.create(), shop.folder / "given"
    try:
        cluster.execute(
            f'CREATE TABLE t (n int); ALTER TABLE t OWNER TO {gone};GRANT SELECT ON t TO "{other}"',
            source,
        )
        tool(cluster, "pg_dump", "-Fc", f"--file={path}", source)
    finally:
        cluster.drop(source)
        cluster.execute(f'DROP ROLE {gone}, "{other}"')
    flags = [f"{gone}={shop.owner}", f'"{other}"={reader}']
    words = ["db.restore", "--backup", str(path)]
    for flag in flags:
        words += ["--map-role", flag]
    unknown = inv(*words, "--map-role", f"nobody={reader}", cwd=shop.project)
    assert unknown.returncode == 2
    assert "'nobody': the backup has no such role, it has" in unknown.stderr
    done = inv(*words, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    acl = (
        "SELECT tableowner, has_table_privilege(%s, 't', 'SELECT') FROM pg_tables"
        " WHERE tablename = 't'"
    )
    assert cluster.execute(acl, shop.name, (reader,)) == [(shop.owner, True)]
    cluster.execute(f"DROP OWNED BY {reader}", shop.name)


NO_DUMPS: dict[str, tuple[bytes | None, str]] = {
    "nosuch.sql": (None, "nothing is there, expected an ID of inv backup.list, the folder"),
    "empty.sql": (b"", "the file is empty"),
    "notes.txt": (b"Dear all,\n", "neither the folder of a backup nor a dump of pg_dump or SQL"),
    "dump.zip": (b"PK\3\4" + bytes(60), "it is a zip archive: unpack it"),
    "empty.gz": (gzip.compress(b""), "nothing is in it, compressed by gzip"),
    "notes.gz": (gzip.compress(b"Dear all,\n"), "nor a dump of pg_dump or SQL, compressed by gzip"),
}


def test_what_is_no_dump_is_said(shop: Shop, inv: Inv) -> None:
    for name, (content, words) in NO_DUMPS.items():
        path = shop.folder / name
        if content is not None:
            path.write_bytes(content)
        for task in (["db.restore", "--backup"], ["backup.import"]):
            done = inv(*task, str(path), cwd=shop.project)
            assert done.returncode == 2, done.stderr
            assert f"no backup at {str(path)!r}: " in done.stderr
            assert words in done.stderr
    folder = shop.dump("-Fd", name="folder")
    shutil.make_archive(str(folder), "gztar", shop.folder, folder.name)
    done = inv("db.restore", "--backup", f"{folder}.tar.gz", cwd=shop.project)
    assert done.returncode == 2
    assert "it is a tar, compressed by gzip, and none of pg_dump: unpack it" in done.stderr


def test_the_command_that_shows_a_dump_works(shop: Shop) -> None:
    for form in ("plain", "custom", "plain.gz", "custom.gz", "tar.xz"):
        dump = dumps.of(form_of.look(FORMS[form](shop)))  # type: ignore[arg-type]
        command = dump.look.replace("pg_restore", str(shop.cluster.bin / "pg_restore"))
        shown = subprocess.run(
            command.replace("| less", "").replace("less ", "cat "), shell=True, capture_output=True
        )
        assert b"CREATE TABLE" in shown.stdout, (command, shown.stderr)


def test_parts_of_what_has_none(shop: Shop, inv: Inv) -> None:
    place = {"PGHOST": shop.cluster.host, "PGPORT": str(shop.cluster.port), "PGUSER": "postgres"}
    roles = shop.folder / "roles.sql"
    command = [shop.cluster.bin / "pg_dumpall", "--globals-only", f"--file={roles}"]
    subprocess.run(command, env={**os.environ, **place}, check=True)
    for path, flags, words in (
        (roles, (), "has the roles and tablespaces of a server only"),
        (roles, ("--part", "shop"), "has the roles and tablespaces of a server only"),
        (shop.dump(), ("--part", "shop"), "is of one database, it has no parts: leave --part out"),
    ):
        done = inv("db.restore", "--backup", str(path), *flags, cwd=shop.project)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr


@pytest.mark.parametrize("named", ["nowhere_to_be_had", "dblink"])
def test_an_extension_is_left_out(named: str, shop: Shop, inv: Inv) -> None:
    text = (
        f"--\n-- Name: {named}; Type: EXTENSION; Schema: -; Owner: -\n--\n"
        f"CREATE EXTENSION IF NOT EXISTS {named} WITH SCHEMA public;\n"
        f"--\n-- Name: EXTENSION {named}; Type: COMMENT; Schema: -; Owner: -\n--\n"
        f"COMMENT ON EXTENSION {named} IS 'words';\n"
        "--\n-- Name: t; Type: TABLE; Schema: public; Owner: -\n--\nCREATE TABLE t (n int);\n"
    )
    plain = ("db.restore", "--backup", str(shop.text(text)))
    done = inv(*plain, cwd=shop.project)
    assert done.returncode == 2
    assert f"extension {named!r} is not available" in done.stderr
    flags = ("--leave-out", f"extension {named}", "--confirm", shop.name)
    done = inv(*plain, *flags, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert f"missing there until made: comment on extension {named}" in done.stdout
    assert shop.cluster.value("SELECT count(*) FROM t", shop.name) == 0


@pytest.mark.parametrize("name", ["chinook", "pagila"])
def test_sample_databases(name: str, shop: Shop, inv: Inv) -> None:
    path = Path(os.environ.get("SAMPLE_DATA", "nowhere")) / f"{name}.sql.gz"
    if not path.exists():
        pytest.skip("SAMPLE_DATA names no folder with sample databases")
    # pagila turns foreign keys off while its rows are loaded
    flags = ("--as-superuser", "--confirm", shop.name) if name == "pagila" else ()
    done = inv("db.restore", "--backup", str(path), *flags, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    rows = {"chinook": "11 tables, 15,607 rows", "pagila": "21 tables, 46,273 rows, as many"}
    assert rows[name] in done.stdout


def old_archive(minor: int) -> bytes:
    """Write the archive of an old pg_dump: 1.12 is that of 9.0, 1.13 that of 10.3 to 11."""

    def integer(value: int) -> bytes:
        return bytes([value < 0]) + abs(value).to_bytes(4, "little")

    def string(text: str | None) -> bytes:
        return integer(-1) if text is None else integer(len(text)) + text.encode()

    head = b"PGDMP" + bytes([1, minor, 0, 4, 8, 1]) + integer(0)  # no compression
    head += b"".join(integer(value) for value in (1, 2, 3, 4, 5, 110, 0))
    head += string("shop") + string("9.6.1") + string("9.6.1") + integer(1)
    entry = integer(7) + integer(0) + string("1259") + string("16385") + string("old")
    entry += string("TABLE") + integer(2) + string("CREATE TABLE public.old (n integer);\n")
    entry += string("DROP TABLE public.old;\n") + string(None) + string("public") + string("")
    entry += string("shopper") + string("false") + string(None)
    return head + entry + b"\3" + bytes(8)


@pytest.mark.parametrize("minor", [12, 13])
def test_archives_of_old_versions(minor: int, shop: Shop, inv: Inv) -> None:
    path = shop.text(old_archive(minor), "old.dump")
    listed = tool(shop.cluster, "pg_restore", "--list", str(path)).stdout.decode()
    assert "TABLE public old shopper" in listed  # the writer above is right
    done = inv("db.restore", "--backup", str(path), cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "of PostgreSQL 9, this is 16" in done.stderr
    assert shop.cluster.value("SELECT count(*) FROM old", shop.name) == 0


def test_windows_lines_and_a_mark_of_byte_order(shop: Shop, inv: Inv) -> None:
    text = (
        b"\xef\xbb\xbf-- PostgreSQL database dump\n\\restrict abc\nSET x.y = 'a';\n"
        b"CREATE TABLE t (a text);\nCOPY t (a) FROM stdin;\n\\N\nx\n\\.\n\n"
        b"-- PostgreSQL database dump complete\n\\unrestrict abc\n"
    )
    path = shop.text(text.replace(b"\n", b"\r\n"))
    done = inv("db.restore", "--backup", str(path), cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert "1 table, 2 rows, as many as the dump has" in done.stdout
    assert shop.cluster.value("SELECT max(a) FROM t", shop.name) == "x"


@pytest.mark.parametrize("into", [False, True])
def test_a_dump_that_makes_its_own_database_needs_no_flags(
    into: bool, shop: Shop, inv: Inv
) -> None:
    path = shop.dump("--create", "--clean", "--if-exists")
    assert b"\\connect" in path.read_bytes()
    databases = shop.cluster.databases()
    planned = inv("backup.import", str(path), "--dry", cwd=shop.project)
    assert planned.returncode == 0, planned.stderr
    beside = f"{shop.name}_beside"
    flags = ("--into", beside) if into else ("--leave-out", "\\connect", "--confirm", shop.name)
    done = inv("db.restore", "--backup", str(path), *flags, cwd=shop.project)
    assert done.returncode == 0, done.stderr
    assert f"makes database {shop.source!r} for itself (--create): it goes into" in done.stderr
    assert "left out" not in done.stdout
    name = beside if into else shop.name
    assert shop.cluster.value("SELECT count(*) FROM people", name) == 1000
    shop.cluster.drop(beside)
    assert {*databases} <= {*shop.cluster.databases()}  # the source, of that name, too


def test_what_looks_like_a_dumps_own_database_and_is_none(shop: Shop, inv: Inv) -> None:
    made = "-- PostgreSQL database dump\nCREATE DATABASE x;\n%s\\connect %s\n%s" + (
        "\n-- PostgreSQL database dump complete\n"
    )
    for parts in (
        ("CREATE TABLE t (n int);\n", "x", ""),
        ("SELECT 1;\n", "x", ""),
        ("", "postgres", ""),
        ("", "x", "\\connect postgres\n"),
        ("", "x", "DROP DATABASE postgres;\n"),
        ("", "x", "DROP DATABASE x;\n"),
        ("", "x", "CREATE ROLE pwned;"),
    ):
        path = shop.text(made % parts)
        for task in (["db.restore", "--backup"], ["backup.import", "--dry"]):
            done = inv(*task, str(path), cwd=shop.project)
            assert done.returncode == 2, (parts, done.stdout)
            assert "reaches out of the database, --leave-out" in done.stderr
    assert shop.untouched


def test_the_plan_of_a_dump_is_short_and_true(shop: Shop, inv: Inv) -> None:
    shop.cluster.execute(
        "".join(f"CREATE TABLE old_{n} AS SELECT 1 AS n;" for n in range(12))
        + "".join(f"CREATE TABLE less_{n} AS SELECT 1 AS n;" for n in range(25)),
        shop.name,
    )
    lesser = "".join(
        f"CREATE TABLE less_{n} (n int);\nCOPY less_{n} FROM stdin;\n\\.\n" for n in range(25)
    )
    dry = inv("db.restore", "--backup", str(shop.text(lesser)), "--dry", cwd=shop.project)
    assert "12 tables are not in the dump, 12 rows: public.old_0, " in dry.stdout
    assert " and 9 more\n" in dry.stdout
    assert "  and 5 tables more, --json lists all" in dry.stdout
    listed = inv(
        "db.restore", "--backup", str(shop.text(lesser)), "--dry", "--json", cwd=shop.project
    )
    assert len(json.loads(listed.stdout)["rows"]) == 37
    assert len(dry.stdout.splitlines()) < 40

    path = str(shop.dump("--inserts"))
    dry = inv("db.restore", "--backup", path, "--dry", cwd=shop.project)
    assert "tables, rows of INSERT, which are not counted\n" in dry.stdout
    only = shop.dump("--schema-only", "--table=people")
    assert (
        "1 table, 0 rows"
        in inv("db.restore", "--backup", str(only), "--dry", cwd=shop.project).stdout
    )
    shop.cluster.execute("CREATE TABLE people AS SELECT 1 AS n", shop.name)
    dry = inv("db.restore", "--backup", str(only), "--dry", cwd=shop.project)
    assert re.search(r"public.people +1 +0\n", dry.stdout)


@pytest.mark.parametrize("flags", [[], ["-Fc"]], ids=["plain", "custom"])
def test_a_dump_of_rows_alone_is_found_before_anything_is_built(
    flags: list[str], shop: Shop, inv: Inv
) -> None:
    path = shop.dump("--data-only", *flags)
    done = inv("db.restore", "--backup", str(path), cwd=shop.project)
    assert done.returncode == 2, done.stderr
    assert "has rows and no tables for them (pg_dump --data-only)" in done.stderr


def test_line_ends_of_windows_in_bodies_are_said(shop: Shop, inv: Inv) -> None:
    text = (
        "CREATE TABLE t (\n a text);\nCREATE FUNCTION f() RETURNS int\n LANGUAGE sql\n AS $f$\n"
        "SELECT 1\n$f$;\n"
    )
    mixed = text + "INSERT INTO t VALUES ('a\r\nb');\n"
    for content, said in ((text.replace("\n", "\r\n"), True), (mixed, False)):
        path = shop.text(content)
        done = inv("db.restore", "--backup", str(path), cwd=shop.project)
        assert done.returncode == 0, done.stderr
        words = "it has line ends of Windows, also in strings and function bodies (1 statement, "
        assert (f"{words}the first in line 3)" in done.stdout) == said
        assert (words in done.stderr) == said  # a note of the plan
    lines = Change("f", "", texts=("a\r\nb", "a\nb")).text_lines()  # as backup.diff shows it
    assert lines == ["@@ -1,2 +1,2 @@", "-a\\r", "+a", " b"]


CUTS = {
    "a plain dump": ([], 0.7),
    "a plain dump without its end mark": ([], -60),
    "custom": (["-Fc"], 0.7),
    "custom within its contents": (["-Fc"], 3000),
    "tar": (["-Ft"], 0.7),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_dump_is_found_before_anything_is_touched(cut: str, shop: Shop, inv: Inv) -> None:
    flags, where = CUTS[cut]
    path = shop.dump(*flags)
    data = path.read_bytes()
    end = int(len(data) * where) if 0 < where < 1 else int(where)
    path.write_bytes(data[:end])
    done = inv("db.restore", "--backup", str(path), cwd=shop.project)
    assert done.returncode == 5, done.stderr
    assert "is cut" in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert not any(line in lines[-1] for line in lines[:-1])
    assert "build " not in done.stderr
    assert shop.untouched


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "lz4"])
def test_a_cut_or_changed_compressed_file_is_found(ending: str, shop: Shop, inv: Inv) -> None:
    path = packed(shop.dump(), ending)
    data = path.read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0x10
    for content in (data[:-3], bytes(changed)):
        path.write_bytes(content)
        done = inv("db.restore", "--backup", str(path), cwd=shop.project)
        assert done.returncode == 5, done.stderr
        assert shop.untouched


def test_a_directory_must_have_its_files_and_no_others(shop: Shop, inv: Inv) -> None:
    whole = shop.dump("-Fd")
    data = sorted(path.name for path in whole.glob("[0-9]*.dat.gz"))

    def refused(change: Callable[[Path], object], words: str) -> None:
        broken = shop.folder / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole, broken)
        change(broken)
        done = inv("db.restore", "--backup", str(broken), cwd=shop.project)
        assert done.returncode == 5, done.stderr
        assert words in done.stderr
        assert shop.untouched

    refused(lambda path: (path / data[0]).unlink(), f"{data[0].removesuffix('.gz')!r}")

    def linked(path: Path) -> None:
        (path / data[0]).unlink()
        (path / data[0]).symlink_to("/etc/passwd")

    refused(linked, "a symbolic link")
    refused(lambda path: os.mkfifo(path / "pipe"), "a named pipe")
    refused(lambda path: (path / "more.txt").write_text("x"), "no file of a dump")
    blobs = next(path.name for path in whole.glob("blobs*.toc*"))

    def led_out(path: Path) -> None:
        (path / blobs).write_bytes(b"4711 ../../../etc/passwd\n")

    refused(led_out, "no file of a dump")

    def renamed(path: Path) -> None:
        # of the same length, so that the table of contents stays readable
        toc = (path / "toc.dat").read_bytes()
        own = data[0].removesuffix(".gz").encode()
        other = b"/" * (len(own) - 2) + b"at"
        assert toc.count(own) == 1
        (path / "toc.dat").write_bytes(toc.replace(own, other))

    refused(renamed, "which is no file of a dump")


def test_a_tar_must_have_plain_members_of_a_dump(shop: Shop, inv: Inv) -> None:
    import io
    import tarfile

    whole = shop.dump("-Ft")

    def with_member(**fields: Any) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            member = tarfile.TarInfo(fields.pop("name"))
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member)
        data = whole.read_bytes()
        end = data.rindex(b"restore.sql\0")
        return data[:end] + content.getvalue()[:512] + data[end:]

    for member, words in (
        ({"name": "../../x", "type": tarfile.REGTYPE}, "none of a dump"),
        ({"name": "9.dat", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "no regular file"),
        ({"name": "toc.dat", "type": tarfile.REGTYPE}, "none of a dump"),
        ({"name": "x", "type": tarfile.CHRTYPE}, "no regular file"),
    ):
        path = shop.text(with_member(**member), "odd.tar")
        done = inv("db.restore", "--backup", str(path), cwd=shop.project)
        assert done.returncode == 5, done.stderr
        assert words in done.stderr
    assert shop.untouched
