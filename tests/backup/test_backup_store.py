"""Finished backups: found, listed, verified to the byte, their manifests too."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from manifests import PLAIN, put
from servers import Cluster

from backups import SHOP, below, listed, local_backup, make
from pgtasks.backup import views
from pgtasks.backup.format import files, manifest
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.listing import BackupList, StorePart
from pgtasks.backup.store import staging
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.verify import verify
from pgtasks.errors import BadConfiguration, Failed, Locked, NotProven, Refused, VersionMismatch
from pgtasks.host.local import LocalHost
from pgtasks.host.tools import Toolset
from pgtasks.server import quoting
from pgtasks.server.dump import compression, pg_dump
from pgtasks.server.proof.model import SequenceProof
from pgtasks.server.proof.toc import Entry

HOST = LocalHost()
ID = "20250101T000000Z-000"  # the last digit tells them apart


class TestManifest:
    def test_comes_back_as_it_was(self) -> None:
        assert manifest.parse(manifest.text(PLAIN).encode(), "x") == PLAIN

    def test_no_byte_of_it_changes_unnoticed(self) -> None:
        content = manifest.text(PLAIN).encode()
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 0x01
            with pytest.raises(NotProven):
                manifest.parse(bytes(changed), "x")

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", "null", '{"format": 1}', manifest.text(PLAIN)[:-2], " "]
    )
    def test_other_texts(self, content: str) -> None:
        with pytest.raises(NotProven, match=r"^where: "):
            manifest.parse(content.encode(), "where")

    def test_more_space_between_is_a_change(self) -> None:
        with pytest.raises(NotProven, match="changed after it was written"):
            manifest.parse(manifest.text(PLAIN).replace('"note"', ' "note"').encode(), "x")

    def test_of_a_newer_pgtasks(self) -> None:
        text = manifest.text(replace(PLAIN, format=99))
        with pytest.raises(NotProven, match="format 99, this pgtasks reads 1"):
            manifest.parse(text.encode(), "x")


class TestFind:
    def test_latest_is_the_newest_complete_one_of_this_database(self, tmp_path: Path) -> None:
        put(tmp_path, id=ID + "1", snapshot_time="2025-01-01T00:00:00.000000Z")
        newest = put(tmp_path, id=ID + "0", snapshot_time="2025-01-02T00:00:00.000000Z")
        put(tmp_path, id=ID + "2", snapshot_time="2025-01-03T00:00:00.000000Z", schema_only=True)
        put(
            tmp_path, id=ID + "3", snapshot_time="2025-01-04T00:00:00.000000Z", excluded_data=("a",)
        )
        put(tmp_path, id=ID + "4", snapshot_time="2025-01-05T00:00:00.000000Z", database="shop2")
        put(tmp_path, id=ID + "5", snapshot_time="2025-01-06T00:00:00.000000Z", environment="prod")
        assert LocalStore(tmp_path).find("dev", "shop") == newest
        assert LocalStore(tmp_path).find("dev", "shop", "latest") == newest
        listed = LocalStore(tmp_path).list().of("dev", "shop")
        assert [backup.id for backup in listed] == [f"{ID}{number}" for number in (3, 2, 0, 1)]

    def test_by_id_by_its_beginning_by_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = put(tmp_path, id="20250101T000000Z-aaaa")
        other = put(tmp_path, id="20250102T000000Z-bbbb")
        prod = put(tmp_path, id="20250102T000000Z-cccc", environment="prod")
        assert LocalStore(tmp_path).find("dev", "shop", "20250101T000000Z-aaaa") == own
        assert LocalStore(tmp_path).find("dev", "shop", "20250102") == other
        assert LocalStore(tmp_path).find("dev", "shop", "20250102T000000Z-c") == prod
        assert LocalStore(tmp_path).find("dev", "shop", str(prod.path)) == prod
        assert LocalStore(tmp_path).find("dev", "shop", str(prod.path / "manifest.json")) == prod
        moved = tmp_path / "elsewhere" / "renamed"
        moved.parent.mkdir()
        shutil.copytree(own.path, moved)
        monkeypatch.chdir(moved.parent)
        assert LocalStore(tmp_path).find("dev", "shop", "renamed").manifest == own.manifest
        with pytest.raises(Refused, match="is the beginning of 2 IDs: 20250102T000000Z-bbbb, 2025"):
            LocalStore(tmp_path).find("dev", "shop", "2025")

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=r"no backup of .*: make one with inv db\.backup"):
            LocalStore(tmp_path).find("dev", "shop")
        put(tmp_path, id=ID + "7", environment="prod")
        with pytest.raises(Refused, match=r"no backup of .*: name one of another, .*7$"):
            LocalStore(tmp_path).find("dev", "shop")
        with pytest.raises(Refused, match="unknown backup '8', this database has none"):
            LocalStore(tmp_path).find("dev", "shop", "8")
        with pytest.raises(Refused, match="expected the folder of a backup"):
            LocalStore(tmp_path).find("dev", "shop", "/nowhere/at/all")
        with pytest.raises(Refused, match=r"no backup at .*: the folder has no manifest\.json"):
            LocalStore(tmp_path).find("dev", "shop", f"{tmp_path}/")

    def test_an_empty_name_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="--backup '' names no backup"):
            LocalStore(tmp_path).find("dev", "shop", "")

    def test_a_long_list_is_cut(self, tmp_path: Path) -> None:
        for number in range(8):
            put(tmp_path, id=f"{ID}{number}")
        with pytest.raises(Refused, match=r"there is 2\S+7, \S+6, \S+5, \S+4, \S+3 and 3 more$"):
            LocalStore(tmp_path).find("dev", "shop", "y")

    def test_one_that_cannot_be_read_is_named_and_not_listed(self, tmp_path: Path) -> None:
        good, bad = put(tmp_path, id=ID + "1"), put(tmp_path, id=ID + "2")
        (bad.path / "manifest.json").write_text("x")
        assert LocalStore(tmp_path).list().backups == [good]
        [broken] = LocalStore(tmp_path).list().broken
        assert broken.place == str(bad.path)
        assert "not a manifest" in broken.error.message
        lines = listed([good], broken=[broken]).lines()
        assert lines[-1].startswith("unreadable: ")

    def test_files_beside_are_no_backups(self, tmp_path: Path) -> None:
        (tmp_path / "journal.jsonl").write_text("{}")
        (tmp_path / "README.md").write_text("x")
        home = Path(LocalStore(tmp_path).home("dev", "shop"))
        home.mkdir(parents=True)
        (home / "file").write_text("x")
        assert LocalStore(tmp_path).list().backups == []
        assert LocalStore(tmp_path).list().broken == []


class TestPartial:
    def test_is_swept_when_its_run_is_dead(self, tmp_path: Path) -> None:
        home = Path(LocalStore(tmp_path).home("dev", "shop"))
        with staging.making(home, "1") as path:
            (path / "dump").mkdir()
            (path / "dump" / "x").write_text("x")
            assert staging.leftovers(tmp_path) == []
            assert LocalStore(tmp_path).sweep() == []
            shutil.copytree(path, home / ".2.partial")
            assert [left.name for left in staging.leftovers(tmp_path)] == [".2.partial"]
            assert LocalStore(tmp_path).sweep() == ["removed '.2.partial', an interrupted backup"]
            assert path.exists()
        assert below(tmp_path) == ["dev", "dev/shop"]

    def test_without_a_lock_only_when_it_is_old(self, tmp_path: Path) -> None:
        path = Path(LocalStore(tmp_path).home("dev", "shop")) / ".1.partial"
        path.mkdir(parents=True)
        assert LocalStore(tmp_path).sweep() == []
        os.utime(path, (0, 0))
        assert LocalStore(tmp_path).sweep() == ["removed '.1.partial', an interrupted backup"]

    def test_finished_is_not_swept(self, tmp_path: Path) -> None:
        home = Path(LocalStore(tmp_path).home("dev", "shop"))
        with staging.making(home, "1") as path:
            final = staging.finish(path, "1")
        assert below(tmp_path) == ["dev", "dev/shop", "dev/shop/1"]
        os.utime(final, (0, 0))
        assert LocalStore(tmp_path).sweep() == []

    def test_goes_with_an_exception(self, tmp_path: Path) -> None:
        def interrupted() -> None:
            with staging.making(tmp_path / "a" / "b", "1") as path:
                (path / "x").write_text("x")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert below(tmp_path) == ["a", "a/b"]

    def test_one_of_the_same_name(self, tmp_path: Path) -> None:
        (tmp_path / ".1.partial").mkdir()
        with pytest.raises(Locked, match="another run is creating"), staging.making(tmp_path, "1"):
            pass
        assert below(tmp_path) == [".1.partial"]

    def test_holds_its_lock(self, tmp_path: Path) -> None:
        with (
            staging.making(tmp_path, "1") as path,
            (path / ".lock").open("rb") as other,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_ids_sort_by_time(self) -> None:
        before = datetime.now(timezone.utc)
        time, _ = staging.new_id().split("-")
        after = datetime.now(timezone.utc)
        assert f"{before:%Y%m%dT%H%M%SZ}" <= time <= f"{after:%Y%m%dT%H%M%SZ}"

    def test_ids_of_one_second_differ(self) -> None:
        # four letters: one pair of 50 is alike in one of fifty runs, ten pairs are in none
        assert len({staging.new_id() for _ in range(50)}) > 40


class TestFolderNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("shop", "shop"),
            ("a/b", "a%2Fb"),
            ("..", "%2E."),
            (".x", "%2Ex"),
            ("a b=c", "a b=c"),
            ("50%", "50%25"),
            ("é", "%C3%A9"),
            ("a\nb", "a%0Ab"),
            ('"*?<>|:\\', "%22%2A%3F%3C%3E%7C%3A%5C"),
        ],
    )
    def test_there_and_back(self, name: str, expected: str) -> None:
        assert quoting.folder_name(name) == expected
        assert quoting.from_folder_name(expected) == name

    def test_of_the_longest_database(self) -> None:
        assert len(quoting.folder_name("🐘" * 15 + "abc")) < 255


@pytest.fixture(scope="module")
def made(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """Return a small backup that tests copy and damage."""
    name = cluster.create()
    cluster.psql(name, SHOP)
    backup = make(cluster.target(name), tmp_path_factory.mktemp("made"))
    cluster.drop(name)
    return backup


@pytest.fixture
def copied(made: Backup, tmp_path: Path) -> Backup:
    path = tmp_path / made.path.parent.relative_to(made.path.parents[2]) / made.id
    shutil.copytree(made.path, path)
    return local_backup(path)


class TestVerify:
    def test_a_whole_one(self, copied: Backup) -> None:
        found = verify(copied, HOST)
        assert found.files == len(copied.manifest.files) + 1
        assert found.bytes == copied.manifest.size
        assert found.structure == "read"
        assert copied.checks.intact == found.when
        assert copied.checks.damaged is None
        assert verify(copied, HOST, read=False).structure == "listed"

    def test_it_changes_nothing_where_it_must_not(self, copied: Backup) -> None:
        before = {name: (copied.path / name).stat() for name in below(copied.path)}
        verify(copied, HOST, record=False)
        after = {name: (copied.path / name).stat() for name in below(copied.path)}
        assert before.keys() == after.keys()
        assert [s.st_mtime_ns for s in before.values()] == [s.st_mtime_ns for s in after.values()]

    def test_a_changed_byte_in_any_file(self, made: Backup, tmp_path: Path) -> None:
        names = [*made.manifest.files, "manifest.json"]
        assert len(names) == 10
        for number, name in enumerate(names):
            folder = tmp_path / str(number)
            shutil.copytree(made.path, folder)
            backup, path = local_backup(folder), folder / name
            content = path.read_bytes()
            for position in {0, len(content) // 2, len(content) - 1}:
                changed = bytearray(content)
                changed[position] ^= 0x20
                path.write_bytes(changed)
                with pytest.raises(NotProven) as caught:
                    verify(backup, HOST, read=False)
                assert name in caught.value.message, (name, position)
            path.write_bytes(content)
            verify(backup, HOST, read=False)

    def test_a_cut_a_longer_a_missing_and_an_extra_file(self, copied: Backup) -> None:
        path = copied.path / "dump" / "toc.dat"
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(NotProven, match=r"toc\.dat: [0-9,]+ bytes, [0-9,]+ were written"):
            verify(copied, HOST)
        path.write_bytes(content + b"x")
        with pytest.raises(NotProven, match=r"dump/toc\.dat"):
            verify(copied, HOST)
        path.unlink()
        with pytest.raises(NotProven, match=r"dump/toc\.dat: missing"):
            verify(copied, HOST)
        path.write_bytes(content)
        (copied.path / "dump" / "9999.dat.gz").write_bytes(b"")
        with pytest.raises(NotProven, match=r"dump/9999\.dat\.gz: not part of the backup"):
            verify(copied, HOST)

    def test_several_faults_are_all_named(self, copied: Backup) -> None:
        for name in ("globals.sql", "proof.json", "README.txt"):
            (copied.path / name).write_text("x")
        with pytest.raises(NotProven, match=r"README\.txt: .* \(and 2 more\)") as caught:
            verify(copied, HOST)
        assert len(caught.value.hint.splitlines()) == 2

    def test_what_was_found_is_kept(self, copied: Backup) -> None:
        content = (copied.path / "globals.sql").read_bytes()
        (copied.path / "globals.sql").write_text("x")
        with pytest.raises(NotProven):
            verify(copied, HOST)
        assert copied.checks.intact is None
        assert copied.checks.damaged is not None
        assert "globals.sql" in copied.checks.damage
        assert "DAMAGED" in "\n".join(listed([copied]).lines())
        assert any(line.startswith("damaged") for line in views.BackupShown(copied).lines())
        (copied.path / "globals.sql").write_bytes(content)
        verify(copied, HOST)
        assert copied.checks.damaged is None

    def test_a_dump_that_pg_restore_cannot_read_though_its_sums_are_right(
        self, copied: Backup
    ) -> None:
        data = next(path for path in (copied.path / "dump").glob("*.dat.gz"))
        data.write_bytes(data.read_bytes()[:-9])
        name = data.relative_to(copied.path).as_posix()
        records = {**copied.manifest.files, name: files.record(copied.path, name)}
        lying = replace(copied.manifest, files=records)
        (copied.path / "manifest.json").write_text(manifest.text(lying), encoding="utf-8")
        backup = local_backup(copied.path)
        verify(backup, HOST, read=False)
        with pytest.raises(NotProven, match="pg_restore cannot read its dump"):
            verify(backup, HOST)

    def test_with_no_tools_that_can_read_it(self, copied: Backup) -> None:
        old = Toolset("/nowhere", (15, 4), "system")
        with pytest.raises(VersionMismatch, match=r"wanted 16 or newer with gzip, found 15\.4"):
            verify(copied, HOST, toolsets=[old])
        assert copied.checks.intact is None

    def test_in_a_folder_that_cannot_be_written(self, copied: Backup) -> None:
        if os.geteuid() == 0:
            (copied.path / "checks.json").mkdir()  # stands in the way of root too
        else:
            copied.path.chmod(0o500)
        verify(copied, HOST)
        assert copied.checks.intact is None
        copied.path.chmod(0o700)

    def test_a_note_that_cannot_be_read_counts_for_nothing(self, copied: Backup) -> None:
        (copied.path / "checks.json").write_text("{")
        assert copied.checks == Checks()
        verify(copied, HOST)
        assert copied.checks.intact


class TestParts:
    def test_that_are_damaged_say_so(self, copied: Backup) -> None:
        (copied.path / "proof.json").write_text("{")
        with pytest.raises(NotProven, match=r"proof\.json"):
            copied.proof()
        (copied.path / "database.json").unlink()
        with pytest.raises(NotProven, match=r"database\.json: No such file"):
            copied.database()

    def test_are_what_was_saved(self, copied: Backup) -> None:
        assert copied.database().encoding == "UTF8"
        assert "CREATE ROLE postgres" in copied.globals()
        assert copied.dump == copied.path / "dump"


NEW = Toolset("/x", (17, 0), "system", frozenset({"gzip", "none", "zstd", "lz4"}))
OLD = Toolset("/x", (15, 0), "system")


class TestCompression:
    @pytest.mark.parametrize(
        ("wanted", "tools", "expected"),
        [
            (None, OLD, "gzip:1"),
            ("auto", OLD, "gzip:1"),
            (None, NEW, "zstd:1"),
            ("auto", NEW, "zstd:1"),
            ("gzip:9", NEW, "gzip:9"),
            ("gzip", OLD, "gzip"),
            ("none", OLD, "none"),
            ("lz4", NEW, "lz4"),
            ("zstd:22", NEW, "zstd:22"),
        ],
    )
    def test_chosen(self, wanted: str | None, tools: Toolset, expected: str) -> None:
        assert compression.chosen(wanted, tools) == expected

    @pytest.mark.parametrize(
        ("wanted", "readers", "expected"),
        [
            (None, [OLD], "gzip:1"),
            ("auto", [OLD], "gzip:1"),
            (None, [OLD, NEW], "zstd:1"),
            ("zstd:3", [OLD], "zstd:3"),
        ],
    )
    def test_of_what_is_read_elsewhere(
        self, wanted: str | None, readers: list[Toolset], expected: str
    ) -> None:
        assert compression.chosen(wanted, NEW, readers) == expected

    @pytest.mark.parametrize(
        "wanted", ["", "gzip:0", "gzip:10", "gzip:", "none:1", "zstd:23", "bzip2", "zstd:-1", "1"]
    )
    def test_nonsense(self, wanted: str) -> None:
        with pytest.raises(BadConfiguration, match=r"backup\.compression"):
            compression.chosen(wanted, NEW)

    def test_what_the_tools_lack(self) -> None:
        with pytest.raises(VersionMismatch, match="cannot compress with 'lz4', only with: gzip"):
            compression.chosen("lz4", OLD)

    @pytest.mark.parametrize(
        ("name", "major", "expected"),
        [
            ("gzip:1", 15, "--compress=1"),
            ("gzip", 14, "--compress=6"),
            ("none", 15, "--compress=0"),
            ("gzip:1", 16, "--compress=gzip:1"),
            ("zstd:1", 17, "--compress=zstd:1"),
            ("none", 18, "--compress=none"),
        ],
    )
    def test_argument(self, name: str, major: int, expected: str) -> None:
        assert compression.argument(name, major) == expected


class TestWordsOfPgDump:
    def test_plan(self) -> None:
        plan = pg_dump.DumpPlan(
            OLD, Path("/b/dump"), "directory", "gzip:1", 3, True, ("a*", "-b"), "UTF8"
        )
        argv = plan.argv("0001")
        assert argv[0] == "/x/pg_dump"
        assert "--jobs=3" in argv
        assert "--snapshot=0001" in argv
        assert "--no-password" in argv
        assert argv[-3:] == ("--schema-only", "--exclude-table-data=a*", "--exclude-table-data=-b")
        streamed = replace(plan, layout="custom", streamed=True).argv("0001")
        assert not [word for word in streamed if word.startswith(("--jobs", "--file"))]

    def test_locks_are_heard_of(self) -> None:
        words = pg_dump.DumpLog()
        for line in ("pg_dump: reading schemas", "pg_dump: reading user-defined tables"):
            words.hear(line)
            assert not words.locked.is_set()
        words.hear("pg_dump: reading user-defined functions")
        assert words.locked.is_set()
        words.hear('pg_dump: dumping contents of table "public.a "b" c"')
        words.hear("pg_dump: warning: there are circular foreign-key constraints")
        assert words.begun == ['public.a "b" c']
        assert words.warnings == ["there are circular foreign-key constraints"]

    def test_faults_without_progress(self) -> None:
        lines = [
            "pg_dump: reading schemas",
            "pg_dump: error: query failed: ERROR:  no",
            "LINE 1: x",
            "pg_dump: detail: Query was: SELECT",
            "  1",
            "pg_dump: finished item 1",
        ]
        assert pg_dump.faults(lines).splitlines() == lines[1:5]
        assert pg_dump.faults(lines[:1]) == ""

    @pytest.mark.parametrize(
        "mixed",
        [
            ["pg_restore: pg_restore: error: processing data for table a", "COPY failed: no"],
            ["pg_restore: pg_restore: processing data for table a", "error: COPY failed: no"],
            ["pg_restore: error: pg_restore: COPY failed: no", "finished item 1 TABLE DATA a"],
            ["pg_restore: finished item 1 TABLE DATA apg_restore: error: ", "COPY failed: no"],
            ["pg_restore:pg_restore:  error: processing data for table a", "COPY failed: no"],
        ],
    )
    def test_faults_in_lines_that_workers_have_mixed(self, mixed: list[str]) -> None:
        """Each line is written in pieces, and several processes write."""
        lines = ["pg_restore: processing item 1", *mixed, "pg_restore: finished item 2"]
        assert pg_dump.faults(lines).splitlines() == mixed

    def test_sequences(self) -> None:
        entries = [
            Entry("SEQUENCE SET", "s", "a", "", 1, b"SELECT pg_catalog.setval('s.a', 1, false);\n"),
            Entry(
                "SEQUENCE SET",
                "we'i\"rd",
                "d.o\nt",
                "",
                2,
                b'SELECT pg_catalog.setval(\'"we\'\'i""rd"."d.o\nt"\', -5, true);\n',
            ),
            Entry("TABLE DATA", "s", "t", "", 3),
        ]
        assert pg_dump.sequences(entries) == (
            SequenceProof("we'i\"rd", "d.o\nt", -5, True),
            SequenceProof("s", "a", 1, False),
        )
        with pytest.raises(Failed, match="has no value of sequence 'a'"):
            pg_dump.sequences([replace(entries[0], definition=b"SELECT 1")])


class TestView:
    def test_age(self) -> None:
        backup = local_backup(Path("/x"), PLAIN)
        now = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(hours=3)
        assert views.age(backup, now) == 3 * 3600
        assert views.age(backup, now - timedelta(days=1)) == 0

    def test_listing_says_what_a_backup_lacks(self, tmp_path: Path) -> None:
        backups = [
            put(tmp_path, id=ID + "3", schema_only=True, note="why"),
            put(tmp_path, id=ID + "2", excluded_data=("logs*",)),
            put(tmp_path, id=ID + "1", with_proof=False, rows=None),
        ]
        lines = listed(backups, interrupted=[f"{tmp_path}/.4.partial"]).lines()
        assert lines[2].endswith("schema only; why")
        assert "  without rows of logs*; ünï" in lines[3]
        assert "  no proof; ünï" in lines[4]
        assert lines[5].startswith(f"interrupted: {tmp_path}/.4.partial")

    def test_listing_names_the_database_unless_it_is_the_chosen_one(self, tmp_path: Path) -> None:
        parts = [StorePart("here", Contents([put(tmp_path, id=ID + "1")]))]
        database = f"{PLAIN.environment}/{PLAIN.database}"
        *table, last = BackupList(parts, database).lines()
        assert database not in "\n".join(table)
        assert last.startswith("last backup ")
        assert last.endswith(" old, none is proven")
        for chosen in (f"{PLAIN.environment}/other", f"other/{PLAIN.database}"):
            heading, _, row = BackupList(parts, chosen).lines()
            assert heading.split()[:2] == ["backup", "of"]
            assert row.split()[1] == database

    def test_json_is_json(self, copied: Backup) -> None:
        for shown in (views.BackupShown(copied), views.BackupMade(copied), listed([copied])):
            json.dumps(shown.as_json())
            assert all(isinstance(line, str) for line in shown.lines())


def test_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 3_000_000)
    (tmp_path / "c").write_bytes(b"")
    records = files.records(tmp_path, files.below(tmp_path), jobs=2)
    (tmp_path / "sums").write_text(files.sums(records))
    done = subprocess.run(["sha256sum", "-c", "--strict", "sums"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert records["a/b"].size == 3_000_000
