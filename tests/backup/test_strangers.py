"""What strangers send is read or refused, and nothing of theirs is followed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import strangers
from servers import Cluster

from backups import SHOP, local_backup, unpacked
from pgtasks.backup.format import files, manifest, names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.store import filestream, staging, tarstream, transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import BadConfiguration, NotProven, Refused
from pgtasks.host import journal
from pgtasks.host.local import LocalHost
from pgtasks.settings import variables, yamlfile

ID = strangers.ID
NEWER = "20250102T000000Z-bbbb"
Inv = Callable[..., Any]


@pytest.mark.parametrize("name", strangers.TRIALS)
def test_made_up_input(tmp_path: Path, name: str) -> None:
    strangers.run(name, tmp_path, examples=60, number=1)


def put(folder: Path, id: str = ID, **changes: Any) -> Backup:
    """Write a backup of one small file."""
    content = b"x" * 100
    records = {"dump.pgdump": FileRecord(100, hashlib.sha256(content).hexdigest())}
    made = replace(strangers.made(records), id=id, with_proof=False, rows=None, **changes)
    path = Path(LocalStore(folder).home(made.environment, made.database)) / id
    path.mkdir(parents=True)
    (path / "dump.pgdump").write_bytes(content)
    (path / manifest.NAME).write_text(manifest.text(made))
    return local_backup(path, made)


# names


_NO_IDS = (
    *("", "1", "..", "/../../../../srv/shop/tasks", f"{ID}/x", f"{ID}\n", f" {ID}", ID.upper()),
    *(f".{ID}", "20250101T000000Z-AAAA", "٢٠٢٥٠١٠١T000000Z-aaaa"),
)


@pytest.mark.parametrize("id", _NO_IDS)
def test_an_id_has_one_form(id: str) -> None:
    content = manifest.text(replace(strangers.made({}), id=id)).encode()
    with pytest.raises(NotProven, match=r"^x: not a manifest: id: expected str matching"):
        manifest.parse(content, "x")
    assert manifest.parse(manifest.text(strangers.made({})).encode(), "x").id == ID


_NO_NAMES = (
    *("", "/etc/shadow", "../x", "dump/../../x", "dump//x", "dump/", "./x", ".hidden", "a/.b"),
    *("a\nb", "a b", "a\\b", "a:b", "C:x", "ä", "-rf"),
)


@pytest.mark.parametrize("name", _NO_NAMES)
def test_a_file_has_a_plain_name_below_its_folder(name: str) -> None:
    made = strangers.made({name: FileRecord(1, "a" * 64)})
    with pytest.raises(NotProven, match="x: not a manifest: files: a key: expected str matching"):
        manifest.parse(manifest.text(made).encode(), "x")


def test_a_folder_is_named_for_its_backup(tmp_path: Path) -> None:
    first, second = put(tmp_path), put(tmp_path, NEWER)
    shutil.copy(second.path / manifest.NAME, first.path / manifest.NAME)
    assert [backup.id for backup in LocalStore(tmp_path).list().backups] == [NEWER]
    words = f"backup {ID} is damaged: .*{ID}/manifest.json: the manifest is of backup {NEWER}"
    with pytest.raises(NotProven, match=words):
        LocalStore(tmp_path).find("dev", "shop", ID)
    with pytest.raises(NotProven, match=f"the manifest is of backup {NEWER}"):
        LocalStore(tmp_path).find("dev", "shop", str(first.path))
    # who names a folder that bears no ID means what is in it
    moved = second.path.rename(tmp_path / "moved")
    assert LocalStore(tmp_path).find("dev", "shop", str(moved)).id == NEWER


# kinds


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has little room
        try:
            listening.bind(path.name)
        finally:
            os.chdir(before)


KINDS: dict[str, Callable[[Path], None]] = {
    "a symbolic link": lambda path: path.symlink_to("manifest.json"),
    "a named pipe": _fifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dump.pgdump", "manifest.json", "checks.json", ".hidden"])
def test_what_is_no_plain_file_is_named_at_once(tmp_path: Path, name: str, kind: str) -> None:
    backup = put(tmp_path)
    (backup.path / name).unlink(missing_ok=True)
    KINDS[kind](backup.path / name)
    if kind != "a folder":
        assert files.odd(backup.path) == [f"{name}: {kind}"]
    if name == "dump.pgdump":
        assert files.unfit(backup.path, backup.manifest.files) == [f"{name}: {kind}"]
        with pytest.raises(filestream.UnreadableFile, match=f"{name}: {kind}"):
            tarstream.pack(io.BytesIO(), filestream.opened(backup.path, [name]))
    if name == "manifest.json":
        with pytest.raises(NotProven, match=f"manifest.json: {kind}"):
            local_backup(backup.path)
    assert backup.checks == Checks()


def test_a_folder_behind_a_link_is_no_part_of_a_backup(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "1").write_text("x" * 100)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "dump").symlink_to(secret)
    records = {"dump/1": FileRecord(100, "a" * 64)}
    assert files.unfit(tmp_path / "made", records) == ["dump/1: a symbolic link"]
    with pytest.raises(filestream.UnreadableFile):
        tarstream.pack(io.BytesIO(), filestream.opened(tmp_path / "made", records))


@pytest.mark.parametrize("name", ["checks.json", ".checks.json"])
def test_what_is_written_beside_follows_no_link(tmp_path: Path, name: str) -> None:
    backup, precious = put(tmp_path), tmp_path / "precious"
    precious.write_text("mine")
    precious.chmod(0o644)
    (backup.path / name).symlink_to(precious)
    backup.record(damaged=journal.now(), damage="$(touch /tmp/pwned)")
    assert precious.read_text() == "mine"
    assert precious.stat().st_mode & 0o777 == 0o644
    assert backup.checks.damaged
    assert not (backup.path / "checks.json").is_symlink()
    assert (backup.path / "checks.json").stat().st_mode & 0o777 == 0o600


def test_nothing_leaves_this_machine_before_all_is_looked_at(tmp_path: Path) -> None:
    backup, secret = put(tmp_path), tmp_path / "id_prod"
    secret.write_text("x" * 100)
    (backup.path / "dump.pgdump").unlink()
    (backup.path / "dump.pgdump").symlink_to(secret)
    nowhere: Any = None  # a store that must not be asked for anything
    with pytest.raises(NotProven, match=r"damaged on this machine: dump.pgdump: a symbolic link"):
        transfer.copy(backup, nowhere)
    elsewhere = strangers.Answers(b"")
    elsewhere.host = LocalHost()
    with pytest.raises(NotProven, match="a symbolic link"), transfer.lent(backup, elsewhere):
        pass


def test_an_archive_of_known_files_holds_no_others(tmp_path: Path) -> None:
    expected = {"dump/1": FileRecord(3, "a" * 64)}
    for name, size, words in (
        ("dump/2", 3, "dump/2: not part of the backup"),
        ("dump/1", 4, "dump/1: 4 bytes, 3 were written"),
    ):
        info = tarfile.TarInfo(name)
        info.size = size
        stream = io.BytesIO(info.tobuf() + b"x" * 512 + bytes(1024))
        with pytest.raises(NotProven, match=words):
            unpacked(stream, tmp_path, admit=filestream.expecting(expected))
    assert list(tmp_path.iterdir()) == []


# no silent choice


def test_a_damaged_newest_one_is_not_passed_over(tmp_path: Path) -> None:
    good, bad = put(tmp_path), put(tmp_path, NEWER)
    for content in (None, "x", manifest.text(bad.manifest).replace("note", "etno")):
        (bad.path / manifest.NAME).unlink()
        if content:
            (bad.path / manifest.NAME).write_text(content)
        for which in (None, "latest"):
            words = rf"^the newest backup {NEWER} cannot be read, --backup {ID} takes the newest"
            with pytest.raises(NotProven, match=words):
                LocalStore(tmp_path).find("dev", "shop", which)
        for which in (NEWER, "20250102"):
            words = rf"^backup {NEWER} is damaged: .*{NEWER}/manifest\.json: "
            with pytest.raises(NotProven, match=words):
                LocalStore(tmp_path).find("dev", "shop", which)
        assert LocalStore(tmp_path).find("dev", "shop", ID).id == good.id
        (bad.path / manifest.NAME).touch()


def test_an_older_damaged_one_and_that_of_another_database_stop_nothing(tmp_path: Path) -> None:
    old, other, good = put(tmp_path), put(tmp_path, NEWER, database="other"), put(tmp_path, NEWER)
    (old.path / manifest.NAME).unlink()
    (other.path / manifest.NAME).write_text("x")
    (good.path.parent / "notes").mkdir()
    assert LocalStore(tmp_path).find("dev", "shop").id == good.id
    assert len(LocalStore(tmp_path).list().broken) == 3


def test_tasks_name_a_damaged_newest_backup(
    project: Path, cluster: Cluster, database: str, inv: Inv
) -> None:
    cluster.psql(database, SHOP)
    made = [json.loads(inv("db.backup", "--json").stdout) for _ in range(2)]
    old, new = sorted(made, key=lambda each: str(each["id"]))  # of one second: by chance
    (Path(new["path"]) / manifest.NAME).write_text("x")
    said = f"the newest backup {new['id']} cannot be read, --backup {old['id']} takes the newest"
    for words in (("backup.verify",), ("db.restore", "--dry"), ("backup.show", "latest")):
        done = inv(*words)
        assert (done.returncode, said in done.stderr) == (5, True), (words, done.stderr)
    assert inv("backup.verify", "--backup", new["id"]).returncode == 5
    assert inv("backup.verify", "--backup", old["id"]).returncode == 0
    checked = inv("db.check", "--json")
    assert checked.returncode == 1
    assert f"backup: {new['id']} cannot be read" in json.loads(checked.stdout)["error"]
    listed = json.loads(inv("backup.list", "--json").stdout)
    assert [one["id"] for one in listed["backups"]] == [old["id"]]
    assert [one["path"] for one in listed["unreadable"]] == [new["path"]]
    assert f"left {new['id']!r} alone, its manifest cannot" in inv("db.recover").stdout


# interrupted ones


@pytest.mark.parametrize("lock", [True, False])
def test_one_that_lacks_its_name_alone_is_finished(tmp_path: Path, lock: bool) -> None:
    backup = put(tmp_path)
    path = backup.path.rename(backup.path.with_name(staging.name(ID)))
    if lock:
        (path / ".lock").touch()
    assert staging.leftovers(tmp_path) == [path]
    assert LocalStore(tmp_path).list().backups == []
    assert LocalStore(tmp_path).sweep() == [
        f"completed backup {ID}: an interrupted run had written all of it"
    ]
    assert [one.id for one in LocalStore(tmp_path).list().backups] == [ID]
    assert not (backup.path / ".lock").exists()


@pytest.mark.parametrize("how", ["cut", "missing", "taken", "another"])
def test_one_that_lacks_more_is_removed(tmp_path: Path, how: str) -> None:
    backup = put(tmp_path)
    path = backup.path.rename(backup.path.with_name(staging.name(ID)))
    (path / ".lock").touch()
    if how == "cut":
        (path / "dump.pgdump").write_bytes(b"x")
    elif how == "missing":
        (path / "dump.pgdump").unlink()
    elif how == "taken":
        put(tmp_path)
    else:
        path.rename(path.with_name(staging.name(NEWER)))
    assert [line.split(",")[1] for line in LocalStore(tmp_path).sweep()] == [
        " an interrupted backup"
    ]
    assert len(LocalStore(tmp_path).list().backups) == (how == "taken")


def test_a_link_in_the_place_of_one_is_left(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    home = Path(LocalStore(tmp_path / "backups").home("dev", "shop"))
    home.mkdir(parents=True)
    (home / staging.name(ID)).symlink_to(tmp_path / "precious")
    os.utime(tmp_path / "precious", (0, 0))
    assert LocalStore(tmp_path / "backups").sweep() == []
    assert (tmp_path / "precious").is_dir()


# other dumps


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "old.sql",
            b"-- PostgreSQL database dump\n",
            r"a dump \(SQL\); inv db.restore --back",
        ),
        ("my old.sql", b"SELECT 1;", "inv backup.import 'my old.sql' makes a backup of it"),
        ("old.sql.gz", gzip.compress(b"SELECT 1;", mtime=0), "it is compressed by gzip; inv db.re"),
        ("old.dump", b"PGDMP\x01\x0e", r"a dump \(format custom\); inv db.restore"),
        ("old.zst", b"\x28\xb5\x2f\xfdx", "it is compressed by zstd; inv db.restore --backup"),
        ("old.tar", b"toc.dat".ljust(257, b"\0") + b"ustar\0", r"a dump \(format tar\)"),
        ("picture.png", b"\x89PNG\0", "expected the folder of a backup"),
        ("empty", b"", "expected the folder of a backup"),
    ],
)
def test_a_dump_of_other_tools_is_told_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    for which in (name, f"{tmp_path}/{name}"):
        with pytest.raises(Refused, match=f"^no backup at '.*{name}': "):
            LocalStore(tmp_path / "backups").find("dev", "shop", which)
    with pytest.raises(Refused, match=words):
        LocalStore(tmp_path / "backups").find("dev", "shop", name)


def test_a_folder_that_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "old.dir").mkdir()
    (tmp_path / "old.dir" / "toc.dat").write_bytes(b"PGDMP")
    (tmp_path / ID).mkdir()
    for which, words in (
        ("old.dir", r"a dump \(format directory\)"),
        (".", r"the folder has no manifest\.json"),
        ("nope", "expected the folder of a backup"),
    ):
        with pytest.raises(Refused, match=words):
            LocalStore(tmp_path / "backups").find("dev", "shop", f"{tmp_path}/{which}")
    with pytest.raises(NotProven, match=r"manifest\.json: No such file"):
        LocalStore(tmp_path / "backups").find("dev", "shop", f"{tmp_path}/{ID}")


# bounds


def test_a_manifest_has_a_bound_that_no_database_meets(tmp_path: Path) -> None:
    records = {f"dump/{number}.dat.gz": FileRecord(number, "a" * 64) for number in range(20_000)}
    content = manifest.text(strangers.made(records)).encode()
    assert len(content) * 20 < manifest.LIMIT
    assert len(manifest.parse(content, "x").files) == 20_000
    backup = put(tmp_path)
    os.truncate(backup.path / manifest.NAME, manifest.LIMIT + 1)
    with pytest.raises(NotProven, match="larger than 67,108,864 bytes"):
        local_backup(backup.path)
    assert LocalStore(tmp_path).list().backups == []


def test_a_proof_is_read_as_the_manifest_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / names.PROOF).write_bytes(b"{}")
    for record, words in (
        (FileRecord(2, "a" * 64), "proof.json: its content was changed"),
        (FileRecord(1, "a" * 64), "proof.json: larger than 1 bytes"),
    ):
        with pytest.raises(NotProven, match=words):
            local_backup(path, strangers.made({names.PROOF: record})).proof()
    with pytest.raises(NotProven, match=r"proof\.json: missing"):
        local_backup(path, strangers.made({})).proof()


def _below(megabytes: int, code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that has so little memory."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    argv = (sys.executable, "-c", code, *argv)
    return subprocess.run(argv, preexec_fn=limit, capture_output=True, text=True)


def test_the_end_of_a_long_journal_takes_no_memory(tmp_path: Path) -> None:
    entry = journal.Entry(**strangers.ENTRY)  # type: ignore[arg-type]
    journal.append(tmp_path, entry)
    path = tmp_path / "journal.jsonl"
    line = path.read_bytes()
    with path.open("ab") as file:
        for _ in range(100):
            file.write(line * 10_000)
        file.write(b"x" * (3 << 20) + b"\n" + line)
    code = (
        "import sys, pathlib; from pgtasks.host import journal;"
        "found = journal.newest(pathlib.Path(sys.argv[1]), limit='5');"
        "print(len(found.entries), found.unreadable)"
    )
    done = _below(150, code, str(tmp_path))
    assert (done.stdout, done.stderr) == ("5 1\n", "")


def test_an_entry_too_long_to_be_read_goes_without_its_details(tmp_path: Path) -> None:
    entry = journal.Entry(**{**strangers.ENTRY, "details": {"x": "y" * (2 << 20)}})  # type: ignore[arg-type]
    journal.append(tmp_path, entry)
    [found], unreadable = journal.read(tmp_path)
    assert (found.result, list(found.details), unreadable) == ("done", ["left_out"], 0)


def test_a_journal_behind_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "journal.jsonl").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic link"):
        journal.append(tmp_path, journal.Entry(**strangers.ENTRY))  # type: ignore[arg-type]
    assert (tmp_path / "precious").read_text() == "mine"


def _aliases(inside: str) -> str:
    lines = [f"a0: &a0 {inside}\n"]
    for number in range(1, 30):
        lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n")
    return "".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_aliases("[x]"), "more than 20,000 values, those of aliases counted each time"),
        (_aliases("{k: v}").replace("[", "{<<: [").replace("]", "]}"), "more than 20,000 values"),
        ("a: &a [*a]", "x.yaml:1: an alias contains itself"),
        ("a: " + "[" * 900 + "]" * 900, "x.yaml:1: nested too deep"),
        ("a: " + "[" * 9000, "nesting depth"),
        ("".join(f"k{number}: 1\n" for number in range(21_000)), "more than 20,000 values"),
        ("a: '" + "x" * (1 << 20) + "'", "larger than 1,048,576 bytes"),
        ("a: " + "9" * 9_999, "digits"),
    ],
)
def test_settings_have_a_bound(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadConfiguration, match=words):
        yamlfile.read(tmp_path / "x.yaml", "x.yaml")


def test_variables_have_a_bound(tmp_path: Path) -> None:
    lines = [f"A{number}={f'${{A{number - 1}}}' * 10}\n" for number in range(1, 12)]
    (tmp_path / ".env").write_text("".join(["A0=" + "x" * 100 + "\n", *lines]))
    with pytest.raises(BadConfiguration, match=r"^\.env:4: a value of more than 65,536 char"):
        variables.read_dotenv(tmp_path / ".env", ".env", {})
