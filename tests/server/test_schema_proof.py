"""The proof of a schema: what pg_dump saves, no more and no less, and the way on with --accept."""

from __future__ import annotations

import io
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rewriting
import schemas
from halting import unlocked
from schemas import Restored
from servers import Cluster

from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import Failed, NotProven, VersionMismatch
from pgtasks.host.local import HERE
from pgtasks.server.dump import pg_dump
from pgtasks.server.proof import entries, toc
from pgtasks.server.proof.difference import Difference, accepted, unused
from pgtasks.server.proof.toc import Entry

Fresh = Callable[..., str]
Inv = Callable[..., Any]


@pytest.fixture(scope="module")
def restored(cluster: Cluster) -> Iterator[Restored]:
    names = [cluster.create() for _ in range(3)]
    yield Restored(cluster, *names)
    for name in names:
        cluster.drop(name)


class TestContents:
    """The table of contents, read as it stands in the file."""

    @pytest.mark.parametrize("layout", ["custom", "directory"])
    def test_as_pg_restore_lists_it(
        self, any_cluster: Cluster, fresh_database: Fresh, tmp_path: Path, layout: str
    ) -> None:
        name = fresh_database(any_cluster)
        any_cluster.psql(name, schemas.EVERYTHING)
        path = tmp_path / "dump"
        schemas.tool(any_cluster, "pg_dump", f"-F{layout[0]}", f"--file={path}", name)
        listed = schemas.tool(any_cluster, "pg_restore", "--list", str(path)).decode()
        wanted = [line for line in listed.splitlines() if line[:1].isdecimal()]
        found = pg_dump.contents(HERE, layout, path)
        assert len(found) > 200
        # what pg_restore does not list: of the archive, and of the database
        unlisted = ("ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE")
        shown = sorted(line_of(each) for each in found if each.desc not in unlisted)
        assert shown == sorted(line.split(" ", 2)[2] for line in wanted)

    def test_what_is_cut_at_any_byte(self, restored: Restored) -> None:
        whole = restored.archive
        length = len(whole) - len(rest_of(whole))
        for size in (0, 3, 5, 11, 40, *random.Random(1).sample(range(length), 50)):
            with pytest.raises(Failed):
                toc.read(io.BytesIO(whole[:size]))

    def test_what_is_no_archive_takes_no_memory(self, restored: Restored) -> None:
        chance = random.Random(2)
        head = restored.archive[: len(restored.archive) - len(rest_of(restored.archive))]
        for _ in range(200):
            spoilt = bytearray(head)
            for _ in range(chance.randint(1, 5)):
                spoilt[chance.randrange(5, len(spoilt))] = chance.randrange(256)
            try:
                toc.read(io.BytesIO(spoilt), limit=len(spoilt))
            except (Failed, VersionMismatch):
                continue

    def test_a_format_of_the_future(self) -> None:
        with pytest.raises(VersionMismatch, match=r"format 1\.99.*upgrade"):
            toc.read(io.BytesIO(b"PGDMP\x01\x63\x00\x04\x08\x01" + bytes(100)))


def line_of(entry: Entry) -> str:
    """Return an entry as pg_restore lists it, from its OID on."""
    name = entry.tag.replace("\n", " ").replace("\r", " ")
    return f"{entry.oid} {entry.desc} {entry.namespace or '-'} {name} {entry.owner}"


def rest_of(archive: bytes) -> bytes:
    source = io.BytesIO(archive)
    toc.read(source)
    return source.read()


# Made in one copy, one after the other, and each is named by itself.
NAMED = {
    "ALTER TABLE plain ADD COLUMN new int": ["table zoo.plain"],
    "ALTER TABLE typed OWNER TO pg_monitor": ["table zoo.typed", "grants on table zoo.typed"],
    "ALTER MATERIALIZED VIEW summed OWNER TO pg_monitor": ["materialized view zoo.summed"],
    "COMMENT ON MATERIALIZED VIEW summed IS 'x'": ["comment on materialized view zoo.summed"],
    "REVOKE SELECT ON summed FROM pg_monitor": ["grants on table zoo.summed"],
    "REFRESH MATERIALIZED VIEW unfilled": ["materialized view data zoo.unfilled"],
    "ALTER FOREIGN TABLE elsewhere OPTIONS (SET t 'y')": ["foreign table zoo.elsewhere"],
    "GRANT INSERT ON elsewhere TO PUBLIC": ["grants on table zoo.elsewhere"],
    "GRANT SELECT (b) ON plain TO PUBLIC": ["grants on column zoo.plain.b"],
    "COMMENT ON COLUMN plain.a IS 'x'": ["comment on column zoo.plain.a"],
    "ALTER TABLE ticket DROP CONSTRAINT ticket_id_fkey": [
        "constraint zoo.ticket.ticket_id_fkey",
    ],
    # from then on it is written within its table
    "ALTER TABLE checked VALIDATE CONSTRAINT later": [
        "constraint zoo.checked.later",
        "table zoo.checked",
    ],
    "DROP INDEX by_status": ["index zoo.by_status"],
    "ALTER TABLE checked ENABLE TRIGGER touched": ["trigger zoo.checked.touched"],
    "ALTER TABLE event_rest ENABLE TRIGGER quiet": ["trigger zoo.event_rest.quiet"],
    "ALTER POLICY own ON guarded TO pg_monitor": ["policy zoo.guarded.own"],
    "DROP RULE quiet ON seen": ["rule zoo.seen.quiet", "comment on rule zoo.quiet ON seen"],
    "ALTER VIEW checked_view RESET (check_option)": ["view zoo.checked_view"],
    "CREATE OR REPLACE FUNCTION overloaded(text) RETURNS int LANGUAGE sql AS 'SELECT 3'": [
        "function zoo.overloaded(text)",
    ],
    "ALTER TYPE mood RENAME VALUE 'ok' TO 'okay'": ["type zoo.mood"],
    "ALTER DOMAIN positive SET DEFAULT 8": ["domain zoo.positive"],
    "ALTER SEQUENCE counted_up NO CYCLE": ["sequence zoo.counted_up"],
    "ALTER OPERATOR <<< (int, int) SET (RESTRICT = NONE)": ['operator zoo."<<<"'],
    "ALTER OPERATOR CLASS backwards USING btree OWNER TO pg_monitor": [
        "operator class zoo.backwards",
    ],
    "ALTER TEXT SEARCH CONFIGURATION speech DROP MAPPING FOR asciiword": [
        "text search configuration zoo.speech",
    ],
    "ALTER SERVER away OPTIONS (SET host 'i')": ["server away"],
    "ALTER USER MAPPING FOR PUBLIC SERVER away OPTIONS (SET u 'z')": [
        "user mapping public SERVER away",
    ],
    "ALTER PUBLICATION told SET (publish = 'delete')": ["publication told"],
    "ALTER EVENT TRIGGER heard ENABLE": ["event trigger heard"],
    "ALTER STATISTICS sized SET STATISTICS 322": ["statistics zoo.sized"],
    "ALTER DEFAULT PRIVILEGES IN SCHEMA zoo REVOKE ALL ON TABLES FROM pg_monitor": [
        "default privileges for tables in schema zoo",
    ],
    "REVOKE CREATE ON SCHEMA shelf FROM pg_monitor": ["grants on schema shelf"],
    "ALTER LARGE OBJECT 4712 OWNER TO pg_monitor": ["owners of large objects"],
    "GRANT UPDATE ON LARGE OBJECT 4711 TO pg_monitor": ["grants on large objects"],
    "COMMENT ON LARGE OBJECT 4711 IS NULL": ["comment on large objects"],
    "CREATE TABLE besides ()": ["table zoo.besides"],
}


class TestChanges:
    def test_what_a_restore_made_has_no_difference(self, restored: Restored) -> None:
        assert restored.differences(restored.copy) == ()

    def test_each_change_is_named_and_nothing_else(self, restored: Restored) -> None:
        cluster = restored.cluster
        name = cluster.create(f"{restored.copy}_changed")
        try:
            schemas.load(cluster, restored.archive, name)
            for statement in NAMED:
                cluster.execute(f"SET search_path = zoo; {statement}", name)
            found = [each.name for each in restored.differences(name)]
        finally:
            cluster.drop(name)
        assert sorted(found) == sorted(name for names in NAMED.values() for name in names)

    @pytest.mark.parametrize("after", ["cluster", "cluster18"])
    def test_another_major_prints_texts_in_its_own_way_and_nothing_else(
        self,
        after: str,
        system_cluster: Cluster,
        fresh_database: Fresh,
        request: pytest.FixtureRequest,
    ) -> None:
        newer = request.getfixturevalue(after)
        if system_cluster.major >= newer.major:
            pytest.skip(f"PostgreSQL {system_cluster.major} is not older than {newer.major}")
        source, target = fresh_database(system_cluster), fresh_database(newer)
        system_cluster.psql(source, schemas.EVERYTHING)
        archive = schemas.dump(system_cluster, source)
        by = newer if newer.major >= 17 else system_cluster
        schemas.load(newer, archive, target, by=by)
        wanted = entries.schema(schemas.contents(archive))
        found = entries.schema(schemas.contents(schemas.dump(newer, target)))
        assert entries.compare_across(wanted, found).differences == ()
        newer.execute(
            "SET search_path = zoo; DROP VIEW counting; COMMENT ON VIEW seen IS 'other';"
            " GRANT DELETE ON plain TO PUBLIC; ALTER TABLE typed OWNER TO pg_monitor",
            target,
        )
        found = entries.schema(schemas.contents(schemas.dump(newer, target)))
        assert [str(each) for each in entries.compare_across(wanted, found).differences] == [
            "grants on table zoo.counting are missing",
            "grants on table zoo.plain are defined differently",
            "grants on table zoo.typed are missing",
            "comment on view zoo.seen is defined differently",
            "table zoo.typed has another owner: 'postgres' expected, 'pg_monitor'",
            "view zoo.counting is missing",
        ]


class TestRecord:
    """What the proof keeps of an archive."""

    def test_nothing_of_an_archive_changes_unseen(self, restored: Restored, tmp_path: Path) -> None:
        schemas.tool(
            restored.cluster, "pg_dump", "-Fd", f"--file={tmp_path / 'dump'}", restored.source
        )
        raw = (tmp_path / "dump" / "toc.dat").read_bytes()
        recorded = entries.record(schemas.contents(raw))
        assert list(entries.altered(recorded, schemas.contents(raw))) == []
        for what, changed in rewriting.rewritten(raw, random.Random(3), 32):
            assert list(entries.altered(recorded, schemas.contents(changed))), what

    def test_order_does_not_matter(self, restored: Restored) -> None:
        before = schemas.contents(restored.archive)
        recorded = entries.record(before)
        assert list(entries.altered(recorded, reversed(before))) == []


class TestAccept:
    def test_names_what_is_left(self) -> None:
        found = [Difference("view a.b", " is missing"), Difference("table c's", ": 1 row")]
        assert accepted(found, ["view  a.b", "table c's"], "problem") == tuple(found)
        with pytest.raises(NotProven) as caught:
            accepted(found, ["view a.b"], "problem")
        assert caught.value.message == "problem: 1 difference"
        assert caught.value.hint.splitlines() == [
            "table c's: 1 row",
            "to swap in spite of that, add --accept 'view a.b' --accept 'table c'\"'\"'s'",
        ]
        assert unused(found, ["view a.b", "view x.y"]) == ["view x.y"]

    def test_says_how_to_see_all_of_many(self) -> None:
        found = [Difference(f"view a.v{number}", " is missing") for number in range(25)]
        with pytest.raises(NotProven) as caught:
            accepted(found, [], "problem")
        lines = caught.value.hint.splitlines()
        assert len(lines) == 21
        assert lines[-1] == "and 5 more: --json lists all, with the flags that accept them"
        assert len(caught.value.details["differences"]) == 25
        assert caught.value.details["accept"].count("--accept") == 25


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (("TABLE", "public", "bill"), "table public.bill"),
        (("TABLE", "public", "Big Bill"), 'table public."Big Bill"'),
        (("FK CONSTRAINT", "public", "a a_b_fkey"), "constraint public.a.a_b_fkey"),
        (("COMMENT", "public", "COLUMN a.b"), "comment on column public.a.b"),
        (("ACL", "", "SCHEMA FOO"), 'grants on schema "FOO"'),
        (("FUNCTION", "public", "f(integer)"), "function public.f(integer)"),
        (("TABLE", "public", "new\nline"), 'table public."new\\nline"'),
    ],
)
def test_names(key: entries.Key, name: str) -> None:
    assert entries.name(key) == name


REPRINTED = """
CREATE TABLE kinds (id int, kind varchar(5) CHECK (kind IN ('a', 'b')));
CREATE INDEX kinds_some ON kinds (id) WHERE kind IN ('a', 'b');
CREATE TABLE parent (id int, name text);
CREATE TABLE child (extra int) INHERITS (parent);
ALTER TABLE parent ADD COLUMN late text DEFAULT 'late';
CREATE TABLE ticket (id int, title text, open bool);
CREATE FUNCTION open_tickets() RETURNS SETOF ticket LANGUAGE sql STABLE
  AS 'SELECT * FROM ticket WHERE open';
CREATE VIEW todo AS SELECT id, title FROM open_tickets();
ALTER TABLE ticket ADD COLUMN due date;
CREATE FOREIGN DATA WRAPPER wrap;
CREATE SERVER office FOREIGN DATA WRAPPER wrap OPTIONS (host 'h', port '1', dbname 'd');
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM ticket;
"""


class TestRestore:
    def test_what_the_server_prints_anew_is_no_difference(
        self, cluster: Cluster, database: str, inv: Inv
    ) -> None:
        cluster.execute(REPRINTED, database)
        assert inv("db.backup").returncode == 0
        done = inv("db.restore")
        assert done.returncode == 0, done.stderr
        assert "printed differently by this server" in done.stderr
        assert "view public.todo" in done.stderr
        assert list(filter(lambda name: "__new_" in name, cluster.databases())) == []

    def test_what_the_template_brings_is_no_difference(
        self, cluster: Cluster, database: str, inv: Inv
    ) -> None:
        cluster.execute(
            "DROP SCHEMA public; DROP EXTENSION plpgsql; CREATE SCHEMA shop;"
            " CREATE TABLE shop.t AS SELECT 1 AS id",
            database,
        )
        assert inv("db.backup").returncode == 0
        done = inv("db.restore")
        assert done.returncode == 0, done.stderr

    def test_a_change_before_the_proof_is_refused_and_accepted_by_name(
        self,
        cluster: Cluster,
        database: str,
        project: Path,
        inv: Inv,
        start_inv: Callable[..., Any],
    ) -> None:
        cluster.execute(REPRINTED, database)
        assert inv("db.backup").returncode == 0
        change = (
            "CREATE OR REPLACE VIEW todo AS SELECT id, title || '!' AS title FROM ticket;"
            " DROP MATERIALIZED VIEW counted; INSERT INTO kinds VALUES (1, 'a')"
        )
        names = ["materialized view data public.counted", "materialized view public.counted"]
        names += ["table public.kinds", "view public.todo"]
        code, _, said = changed_before_proof(cluster, database, start_inv, change)
        assert code == 5, said
        assert said.splitlines()[-6:] == [
            "  table public.kinds: 0 rows expected, 1 found",
            "  materialized view public.counted is missing",
            "  materialized view data public.counted is missing",
            "  view public.todo is defined differently",
            "  to swap in spite of that, add --accept 'table public.kinds'"
            " --accept 'materialized view public.counted'"
            " --accept 'materialized view data public.counted' --accept 'view public.todo'",
            "error: the restored content differs from the backup, nothing was replaced:"
            " 4 differences",
        ]
        assert [name for name in cluster.databases() if "__" in name] == []
        flags = [word for name in names[:3] for word in ("--accept", name)]
        code, _, said = changed_before_proof(
            cluster, database, start_inv, change, *flags, "--confirm", database
        )
        assert code == 5, said
        assert "nothing was replaced: 1 difference\n" in said
        flags += ["--accept", names[3], "--accept", "view public.other"]
        code, printed, said = changed_before_proof(
            cluster, database, start_inv, change, *flags, "--confirm", database
        )
        assert code == 0, said
        assert "4 differences accepted, swapped in" in printed
        assert "accepted: view public.todo is defined differently" in said
        assert "--accept 'view public.other': nothing of that name differs" in said
        assert cluster.value("SELECT count(*) FROM kinds", database) == 1
        checks = json.loads(next((project / "backups").rglob("checks.json")).read_text())
        assert checks["proven"] is None  # what was accepted is not proven

    def test_accepting_wants_the_name_typed(
        self, cluster: Cluster, database: str, inv: Inv
    ) -> None:
        assert inv("db.backup").returncode == 0
        refused = inv("db.restore", "--accept", "view public.todo")
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1] == (
            f"error: --accept swaps in what differs from the backup, add --confirm {database}"
        )

    def test_what_a_killed_run_left_of_a_scratch_database_is_found(
        self, cluster: Cluster, database: str, inv: Inv, start_inv: Callable[..., Any]
    ) -> None:
        cluster.execute(REPRINTED, database)
        assert inv("db.backup").returncode == 0
        running = start_inv("db.restore", env={"PGTASKS_HALT_AT": "restore.anew"})
        for line in running.stderr:
            if line.startswith("halted at"):
                break
        left = [name for name in cluster.databases() if name.startswith(f"{database}__new_")]
        assert len(left) == 2
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        recovered = unlocked(inv, "db.recover")
        assert recovered.returncode == 0, recovered.stderr
        assert [name for name in cluster.databases() if "__" in name] == []

    def test_a_rewritten_dump_is_refused_before_it_runs(
        self, cluster: Cluster, database: str, project: Path, inv: Inv
    ) -> None:
        cluster.execute(REPRINTED, database)
        assert inv("db.backup").returncode == 0
        [made] = LocalStore(project / "backups").list().backups
        raw = (made.dump / "toc.dat").read_bytes()
        rewriting.put(made, raw.replace(b"WHERE open", b"WHERE true"))
        assert inv("backup.verify").returncode == 0
        refused = inv("db.restore")
        assert refused.returncode == 5
        assert refused.stderr.splitlines()[-3:] == [
            "  function public.open_tickets() is not in the dump as the proof has it",
            "  to swap in spite of that, add --accept 'function public.open_tickets()'",
            "error: the dump differs from the proof of the backup, nothing was restored:"
            " 1 difference",
        ]
        flags = ("--accept", "function public.open_tickets()", "--confirm", database)
        done = inv("db.restore", "--as-superuser", *flags)
        assert done.returncode == 0, done.stderr
        assert "accepted: function public.open_tickets() is not in the dump" in done.stderr
        assert "nothing of that name differs" not in done.stderr

    def test_a_backup_from_before_entries_were_recorded(
        self, cluster: Cluster, database: str, project: Path, inv: Inv
    ) -> None:
        cluster.execute(REPRINTED, database)
        assert inv("db.backup").returncode == 0
        [made] = LocalStore(project / "backups").list().backups
        rewriting.put_json(made, "proof.json", {"schema": {"view public.todo": ["a", "b", "c"]}})
        # the journal knows nothing of such a manifest
        done = inv("db.restore", "--as-superuser", "--confirm", database)
        assert done.returncode == 0, done.stderr
        assert "this backup was made before they were recorded" in done.stderr


def changed_before_proof(
    cluster: Cluster, database: str, start_inv: Callable[..., Any], change: str, *flags: str
) -> tuple[int, str, str]:
    """Restore and change the side database between load and proof; return how that ended."""
    running = start_inv("db.restore", *flags, env={"PGTASKS_HALT_AT": "restore.loaded"})
    said = []
    for line in running.stderr:
        said.append(line)
        if line.startswith("halted at"):
            break
    [side] = [name for name in cluster.databases() if name.startswith(f"{database}__new_")]
    cluster.execute(change, side)
    running.send_signal(signal.SIGUSR1)
    stdout, stderr = running.communicate()
    return running.returncode, stdout, "".join(said) + stderr
