"""What strangers send, made up: documents, archives, journals, lines of a host, settings.

A trial takes such input through all that reads it. It may be refused, in one line; it never ends in
another exception, writes nothing outside its folder, and takes no more memory than it is large.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import os
import resource
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from backups import local_backup, unpacked
from pgtasks.backup import listing, views
from pgtasks.backup.format import files, manifest, names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord, Unread
from pgtasks.backup.store import filestream, remote, remote_index, tarstream
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote_shell import Shell
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties, Grant, Setting
from pgtasks.errors import PgtasksError
from pgtasks.host import journal
from pgtasks.host.local import HERE, LocalHost
from pgtasks.server.dump import pg_dump
from pgtasks.server.proof import model
from pgtasks.server.proof.model import Proof, SequenceProof, TableProof, Unproven
from pgtasks.settings import variables, yamlfile

ID = "20250101T000000Z-aaaa"
_CANARY = "../../../../canary"  # beside the folder of a trial, from a backup's
MEMORY = 32 << 20  # bytes that a trial may take; what it reads is smaller than one MiB
_ADDRESSES = 1 << 30  # a thread reserves some hundred million of them
_MEASURED = 15  # of so many trials one is measured
st.text().validate()  # Hypothesis makes its table of characters now: 200 MB, nothing of a trial
FACTS = DatabaseProperties(
    *("shop", "ann", "UTF8", "C", "C"),
    grants=(Grant("bob", "CONNECT"),),
    settings=(Setting("search_path", "a, b", "ann"),),
    roles=("ann",),
)
PROOF = Proof(
    150000,
    (TableProof("public", "t", 5, "77"),),
    (SequenceProof("public", "s", 3, True),),
    {"plpgsql": "1.0"},
    unproven=(Unproven("table x", "why"),),
)
ENTRY = {
    "when": "2025-01-01T00:00:00Z",
    "who": "a@b",
    "task": "db.backup",
    "environment": "dev",
    "database": "shop",
    "result": "done",
    "seconds": 1.5,
    "details": {"files": ["x"]},
}
CHECKS = {"intact": "2025-01-01T00:00:00Z", "proven": None, "damaged": None, "damage": "x"}

_ODD = (
    *("", "..", "/etc/passwd", "../../x", "a/../../b", ".hidden", "\0", "a\nb", "\x1b[31m"),
    *("/../../../tasks", "dump/toc.dat", "manifest.json", ID, "x" * 5000, "\ud800", "2025-13-01"),
)
_TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(_ODD))
_NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308])
)
_LEAVES = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def _places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inside = document.items() if isinstance(document, dict) else ()
    inside = enumerate(document) if isinstance(document, list) else inside
    for key, value in inside:
        yield from _places(value, (*place, key))


def changed(data: st.DataObject, document: Any) -> Any:
    """Return a document with some of its values replaced, taken out, or put elsewhere."""
    document = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(_places(document))))
        value = data.draw(_VALUES)
        if not place:
            document = value if data.draw(st.booleans()) else document
            continue
        owner = functools.reduce(lambda found, key: found[key], place[:-1], document)
        how = data.draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if how == "replace":
            owner[place[-1]] = value
        elif how == "remove" or not isinstance(owner, dict):
            del owner[place[-1]]
        else:
            owner[data.draw(_TEXTS)] = owner.pop(place[-1])
    return document


def spoiled(data: st.DataObject, content: bytes) -> bytes:
    """Return bytes some of which are others, or gone, or there again and again."""
    for _ in range(data.draw(st.sampled_from([0, 0, 0, 1, 2, 3]))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 40)))
        more = data.draw(st.sampled_from([b"[", b'"', b"{", b"9", b"\\u0000", b"\xff", b"\0"]))
        more = data.draw(st.one_of(st.binary(max_size=20), st.just(more)))
        times = data.draw(st.sampled_from([0, 1, 2, 2000]))
        content = content[:start] + more * times + content[end:]
    return content


def _text(document: Any) -> bytes:
    return json.dumps(document).encode()


def made(records: dict[str, FileRecord]) -> Manifest:
    return Manifest(
        *(ID, "dev", "shop", "7", 160014, "PostgreSQL 16", (16, 14), "custom", "gzip:1"),
        *("2025-01-01T00:00:00.000000Z", "a1", 2, 5, 100, 1.5, True, records, "note"),
    )


def _put(folder: Path, contents: dict[str, bytes]) -> Path:
    path = Path(LocalStore(folder).home("dev", "shop")) / ID
    path.mkdir(parents=True)
    records = {
        name: FileRecord(len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    for name, content in contents.items():
        (path / name).write_bytes(content)
    (path / manifest.NAME).write_text(manifest.text(made(records)))
    return path


def _shown(folder: Path) -> None:
    """Read a backups folder as all tasks do that list."""
    there = LocalStore(folder).list()
    shown = listing.BackupList([listing.StorePart("here", there)])
    json.dumps(shown.as_json())
    assert all(isinstance(line, str) for line in (*shown.lines(), shown.summary()))
    for backup in there.backups:
        json.dumps(views.BackupShown(backup).as_json())
        assert all(views.BackupShown(backup).lines())
        assert LocalStore(folder).find("dev", "shop", backup.id).id == backup.path.name
    assert len(there.backups) + len(there.broken) == 1


def manifests(data: st.DataObject, folder: Path) -> None:
    """A manifest whose checksum is right."""
    path = _put(folder, {"dump.pgdump": b"x"})
    document = json.loads((path / manifest.NAME).read_text())
    document.pop("checksum")
    document = changed(data, document)

    def laid(it: Any) -> str:
        return json.dumps(it, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    if isinstance(document, dict):
        sum = hashlib.sha256(laid(document).encode("utf-8", "surrogatepass")).hexdigest()
        document["checksum"] = sum
    content = laid(document).encode("utf-8", "surrogatepass")
    (path / manifest.NAME).write_bytes(spoiled(data, content))
    _shown(folder)
    LocalStore(folder).find("dev", "shop")


def proofs(data: st.DataObject, folder: Path) -> None:
    """A proof that the manifest knows."""
    document = changed(data, json.loads(model.text(PROOF)))
    path = _put(folder, {names.PROOF: spoiled(data, _text(document))})
    proof = local_backup(path).proof()
    assert proof is not None
    assert isinstance(model.text(proof), str)
    assert all(map(str, (*proof.tables, *proof.sequences)))


def facts(data: st.DataObject, folder: Path) -> None:
    """The facts of a database that the manifest knows."""
    path = _put(folder, {names.DATABASE: spoiled(data, _text(changed(data, FACTS.as_json())))})
    found = local_backup(path).database()
    assert properties.laying_statements("x", found) is not None
    assert properties.late_statements("x", found) is not None


def checks(data: st.DataObject, folder: Path) -> None:
    """The checks beside a backup."""
    path = _put(folder, {"dump.pgdump": b"x"})
    (path / names.CHECKS).write_bytes(spoiled(data, _text(changed(data, CHECKS))))
    _shown(folder)
    local_backup(path).record(damage=data.draw(st.text(max_size=10_000)))
    assert local_backup(path).checks.text()


_MEMBERS = st.tuples(
    st.one_of(_TEXTS, st.sampled_from(["dev/shop/x/manifest.json", "dump/1", "dump", "x" * 300])),
    st.sampled_from([*tarfile.REGULAR_TYPES, b"1", b"2", b"3", b"6", b"5", b"L", b"x", b"g", b"K"]),
    st.one_of(st.integers(0, 2000), st.sampled_from([-1, -(2**40), 2**40, 8**11])),
    st.binary(max_size=1024),
)


def tar(data: st.DataObject) -> bytes:
    """Return an archive as no tar would write it."""
    stream = b""
    for name, kind, size, content in data.draw(st.lists(_MEMBERS, max_size=5)):
        info = tarfile.TarInfo(name.replace("\0", "") or "x")
        info.type, info.size, info.linkname = kind, size, "/etc/passwd"
        stream += info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogatepass")
        stream += content + bytes(-len(content) % 512)
    return spoiled(data, stream + bytes(1024))


def archives(data: st.DataObject, folder: Path) -> None:
    """An archive of what is expected, and of what is not."""
    expected = {"dump/1": FileRecord(5, "a" * 64), "x": FileRecord(0, "b" * 64)}
    admit = data.draw(st.sampled_from([remote_index.admit, filestream.expecting(expected)]))
    found = unpacked(io.BytesIO(tar(data)), folder, admit=admit)
    assert all((folder / name).is_file() for name in found)


def _integer(number: int) -> bytes:
    return bytes([number < 0]) + min(abs(number), 2**32 - 1).to_bytes(4, "little")


def _string(text: str | None) -> bytes:
    content = (text or "").encode("utf-8", "surrogatepass")
    return _integer(-1) if text is None else _integer(len(content)) + content


def _toc(entries: list[tuple[str | None, ...]], number: int) -> bytes:
    """Return the beginning of an archive of pg_dump 16 (custom)."""
    head = b"PGDMP" + bytes([1, 15, 0, 4, 8, 1, 1]) + _integer(0) * 7 + _string("x") * 3
    made = head + _integer(number)
    for oid, tag, desc, definition, copy, namespace, space, method, owner in entries:
        made += _integer(1) + _integer(1) + _string("0")
        made += _string(oid) + _string(tag) + _string(desc) + _integer(2) + _string(definition)
        made += _string(None) + _string(copy) + _string(namespace) + _string(space)
        made += _string(method) + _string(owner) + _string("false") + _string(None) + bytes(9)
    return made


def tocs(data: st.DataObject, folder: Path) -> None:
    """The table of contents of a dump."""
    text = st.one_of(st.none(), _TEXTS)
    row = st.tuples(st.sampled_from(["16384", "9" * 5000, "²", None]), *[text] * 8)
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    number = data.draw(st.sampled_from([len(rows)] * 6 + [-1, 2**31, 2**32 - 1]))
    (folder / "dump.pgdump").write_bytes(spoiled(data, _toc(rows, number)))
    found = pg_dump.contents(HERE, "custom", folder / "dump.pgdump")
    assert all(len(entry.digest) == 32 for entry in found)


def journals(data: st.DataObject, folder: Path) -> None:
    """A journal."""
    lines = []
    for _ in range(data.draw(st.integers(0, 4))):
        lines.append(spoiled(data, _text(changed(data, ENTRY))))
    (folder / "journal.jsonl").write_bytes(b"\n".join(lines))
    entry = journal.Entry(**{**ENTRY, "task": "last"})  # type: ignore[arg-type]
    journal.append(folder, entry)
    found = journal.newest(folder, limit="3")
    assert found.entries[-1] == entry
    json.dumps(found.as_json())
    assert all(isinstance(line, str) for line in found.lines())


@dataclass(frozen=True)
class Telling(Shell):
    """A shell of a host that says what it likes."""

    answer: bytes = b""

    @contextmanager
    def reading(self, *args: Any, **options: Any) -> Iterator[Any]:
        class Source(io.BytesIO):
            def wait(self, seconds: float) -> None:
                assert 0 <= seconds < 1e9

        yield Source(self.answer)


class Answers(remote.RemoteStore):
    """A store on such a host."""

    def __init__(self, answer: bytes) -> None:
        host = LocalHost()  # whose folder for small files is of this test
        super().__init__(host)
        self.shell = Telling(host, str(self), answer)


_LINES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda kind, name: f"{kind} {name}".encode("utf-8", "surrogatepass"),
            st.sampled_from(["base", "dead", "backup", "odd", "large", "at", "free", "x"]),
            st.one_of(_TEXTS, st.just(f"dev/shop/{ID}")),
        ),
        st.builds(
            lambda kind, size, name: f"{kind}rw- 1 0 0 {size} Jan 1 2025 ./{name}".encode(
                "utf-8", "surrogatepass"
            ),
            st.sampled_from("-lpscbd?"),
            _NUMBERS,
            _TEXTS,
        ),
    ),
    max_size=5,
)


def answers(data: st.DataObject, folder: Path) -> None:
    """What a host says of its backups, and of the files of one."""
    said = b"\n".join(data.draw(_LINES)) + b"\n\n"
    if data.draw(st.booleans()):
        found = Answers(spoiled(data, said + tar(data))).list()
        assert all(backup.folder for backup in found.backups)
        assert all(isinstance(each.error.message, str) for each in found.broken)
        assert all(isinstance(place, str) for place in found.interrupted)
    else:
        sums = b"\n".join(data.draw(_LINES)) + b"\n"
        found_sums = Answers(spoiled(data, said + sums)).shell.sums("x", 1)
        assert all(isinstance(one, FileRecord | Unread) for one in found_sums.values())


_SIGNS = (
    *("a: ", "&x ", "*x", "<<: ", "[", "]", "{", "}", "- ", "\n", "  ", "? ", "!!python/name:os"),
    *(
        "|",
        ">",
        "'",
        '"',
        "0",
        "1e9",
        "~",
        "\t",
        "#",
        ", ",
        "k",
        ": ",
        "%YAML 1.1",
        "---",
        "\x85",
        "💥",
    ),
)
_YAML = st.lists(st.sampled_from(_SIGNS), max_size=40).map("".join)


def yamls(data: st.DataObject, folder: Path) -> None:
    """A file of settings."""
    text = data.draw(st.one_of(_YAML, _VALUES.map(lambda it: json.dumps({"a": it}))))
    name = data.draw(st.sampled_from(["x.yaml", "x.json"]))
    (folder / name).write_bytes(spoiled(data, text.encode("utf-8", "surrogatepass")))
    assert isinstance(yamlfile.read(folder / name, name), dict)


def dotenvs(data: st.DataObject, folder: Path) -> None:
    """A file of variables."""
    words = ["A=", "B=", "${A}", "${B}", "${A:-x}", "'", '"', "\n", "#", "export ", "x" * 500, "\\"]
    text = "".join(data.draw(st.lists(st.sampled_from(words), max_size=60)))
    (folder / ".env").write_bytes(spoiled(data, text.encode()))
    found = variables.read_dotenv(folder / ".env", ".env", {"P": "p"})
    assert all(isinstance(one.value, str) for one in found.values())


def _replace(path: Path, kind: str) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": _CANARY, "loop": path.name, "zero": "/dev/zero"}[kind])


def folders(data: st.DataObject, folder: Path) -> None:
    """A backup's folder with something else where a file was."""
    path = _put(folder, {"dump.pgdump": b"x", names.PROOF: b"{}", names.DATABASE: b"{}"})
    backup = local_backup(path)
    present = [*backup.manifest.files, names.CHECKS, ".hidden", "dump"]
    for name in data.draw(st.lists(st.sampled_from(present), max_size=3)):
        _replace(
            path / name, data.draw(st.sampled_from(["link", "pipe", "folder", "loop", "zero"]))
        )
    files.odd(path)
    files.below(path)
    unfit = files.unfit(path, backup.manifest.files)
    try:
        tarstream.pack(io.BytesIO(), filestream.opened(path, backup.manifest.files))
        assert unfit == []
    except filestream.UnreadableFile:
        assert unfit != []
    for read in (backup.proof, backup.database, lambda: backup.checks):
        try:
            read()
        except PgtasksError:
            pass
    now = journal.now()
    backup.record(intact=now)
    assert backup.checks.intact == now or (path / names.CHECKS).is_dir()


Trial = Callable[[st.DataObject, Path], None]
TRIALS: dict[str, Trial] = {
    trial.__name__: trial
    for trial in (
        *(manifests, proofs, facts, checks, folders, archives),
        *(tocs, journals, answers, yamls, dotenvs),
    )
}


def run(name: str, folder: Path, *, examples: int, number: int) -> None:
    """Make a trial of what is made up, so and so many times; `number` is the seed."""
    trial = TRIALS[name]
    outside = folder / "outside"
    outside.mkdir()
    (outside / "canary").write_text("x")
    made = itertools.count()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # what fails is small enough
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        inside = outside / "inside"
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir()
        bound = _measured if next(made) % _MEASURED == _MEASURED - 1 else _limited
        with suppress(PgtasksError), bound():
            trial(data, inside)
        assert sorted(path.name for path in outside.iterdir()) == ["canary", "inside"]
        assert (outside / "canary").read_text() == "x"

    once()


@contextmanager
def _measured() -> Iterator[None]:
    """Let a block take so much memory, to the byte; it makes all of it slow."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
        assert peak < MEMORY
    finally:
        tracemalloc.stop()


@contextmanager
def _limited() -> Iterator[None]:
    """Let a block have so many addresses more: a MemoryError is no refusal."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _ADDRESSES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
