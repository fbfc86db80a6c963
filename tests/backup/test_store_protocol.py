"""The protocol of a store, kept by stores of which one has no folder that a tool could read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from servers import Cluster

from backups import SHOP, differences, restored
from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.format import files, manifest, names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.records import FileRecord, Reading
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.prune import hands
from pgtasks.backup.prune.perform import prune
from pgtasks.backup.store import choice, filestream, staging, transfer, trash, tree
from pgtasks.backup.store.backup import Backup, CheckNames
from pgtasks.backup.store.base import Draft, Store
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.faults import BackupExists
from pgtasks.backup.store.filestream import FileStream, FileStreams, Tell
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.trash import Trashed
from pgtasks.backup.verify import verify
from pgtasks.errors import NotProven, Refused
from pgtasks.host import journal
from pgtasks.host.local import HERE
from pgtasks.report import Console
from pgtasks.server.reach import Reached
from pgtasks.settings.blocks import Backup as Settings
from pgtasks.settings.blocks import Keep


class ObjectStore:
    """Backups as encrypted objects by their keys, `ENVIRONMENT/DATABASE/ID/NAME`."""

    name, prefix, host = "s3", "s3://bucket/", HERE

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.objects, self.key = scratch, {}, Fernet(Fernet.generate_key())

    def put(self, key: str, content: bytes) -> None:
        self.objects[key] = self.key.encrypt(content)

    def get(self, key: str) -> bytes:
        return self.key.decrypt(self.objects[key])

    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def home(self, environment: str, database: str) -> str:
        return f"{environment}/{database}"

    def list(self) -> Contents:
        found = [key for key in self.objects if key.endswith(f"/{manifest.NAME}")]
        found = [key for key in found if not key.endswith(f".partial/{manifest.NAME}")]
        folders = [key.rpartition("/")[0] for key in sorted(found, reverse=True)]
        parts = [folder.split("/") for folder in folders if f"/{trash.FOLDER}/" in folder]
        dropped = [trash.found((each[0], each[1]), each[3], "/".join(each)) for each in parts]
        return Contents(
            [self.backup(folder) for folder in folders if f"/{trash.FOLDER}/" not in folder],
            trash=[each for each in dropped if each is not None],
        )

    def backup(self, folder: str) -> Backup:
        path = self.folder()
        for name in (manifest.NAME, *names.BESIDE):
            if f"{folder}/{name}" in self.objects:
                (path / name).write_bytes(self.get(f"{folder}/{name}"))
        return Backup(path, tree.manifest_in(path), self, folder)

    def find(self, environment: str, database: str, which: str | None = None) -> Backup:
        return choice.select(self.list(), environment, database, which)

    @contextmanager
    def draft(
        self, environment: str, database: str, id: str = "", *, replacing: bool = False
    ) -> Iterator[Draft]:
        id = id or staging.new_id()
        folder = f"{self.home(environment, database)}/{id}"
        if f"{folder}/{manifest.NAME}" in self.objects and not replacing:
            raise BackupExists(f"backup {id} is there already")
        path = self.folder()
        yield ObjectDraft(self, id, path, path, folder)
        shutil.rmtree(path)

    def dump(self, backup: Backup) -> Path:
        dump = backup.path / names.dump_name(backup.manifest.layout)
        if not dump.exists():
            inside = [name for name in backup.manifest.files if name.split("/")[0] == dump.name]
            filestream.laid(backup.path, self.read(backup, inside))
        return dump

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        for name in names or backup.manifest.files:
            content = self.get(f"{backup.folder}/{name}")
            yield FileStream(name, len(content), [content])

    def complete(self, backup: Backup) -> None:
        dump = names.dump_name(backup.manifest.layout)
        small = [name for name in backup.manifest.files if name.split("/")[0] != dump]
        missing = [name for name in small if not (backup.path / name).exists()]
        if missing:
            filestream.laid(backup.path, self.read(backup, missing))

    def records(
        self, backup: Backup, jobs: int, *, check: CheckNames, tell: Tell | None = None
    ) -> Reading:
        there = {key for key in self.objects if key.startswith(f"{backup.folder}/")}
        check({key.removeprefix(f"{backup.folder}/") for key in there})
        records: dict[str, FileRecord] = {}
        for stream in filestream.measured(filestream.told(self.read(backup), tell), records):
            for _ in stream.chunks:
                pass
        return records

    def settle(self, backup: Backup) -> None:
        pass

    def note(self, backup: Backup, checks: Checks) -> None:
        self.put(f"{backup.folder}/{names.CHECKS}", checks.text().encode())
        checks.write(backup.path)

    def sweep(self) -> Sequence[str]:
        return []

    def newest(self, environment: str, database: str) -> Sequence[Backup]:
        return self.list().of(environment, database)[:1]

    def has(self, backup: Backup) -> bool:
        return f"{backup.folder}/{manifest.NAME}" in self.objects

    def unfit(self, backups: Sequence[Backup]) -> Mapping[str, str]:
        return {}

    @contextmanager
    def retaining(self, environment: str, database: str) -> Iterator[None]:
        yield

    def retain(self, backup: Backup, retention: Retention) -> None:
        self.put(f"{backup.folder}/{names.RETENTION}", retention.text().encode())
        retention.write(backup.path)

    def drop(
        self, environment: str, database: str, ids: Sequence[str], when: datetime
    ) -> Mapping[str, str]:
        home = self.home(environment, database)
        for id in ids:
            self.move(f"{home}/{id}", f"{home}/{trash.FOLDER}/{trash.name(id, when)}")
        return {}

    def bring_back(self, trashed: Trashed) -> None:
        self.move(trashed.place, f"{'/'.join(trashed.home)}/{trashed.id}")

    def empty(self, trashed: Sequence[Trashed]) -> Mapping[str, str]:
        for each in trashed:
            for key in [key for key in self.objects if key.startswith(f"{each.place}/")]:
                del self.objects[key]
        return {}

    def move(self, folder: str, to: str) -> None:
        for key in [key for key in self.objects if key.startswith(f"{folder}/")]:
            self.objects[to + key[len(folder) :]] = self.objects.pop(key)


@dataclass
class ObjectDraft:
    """A backup that is dumped into a folder here, and written as objects when it is whole."""

    store: ObjectStore
    id: str
    path: Path
    folder: Path
    key: str
    free: int | None = None

    def clear(self, path: Path) -> None:
        files.remove(path)

    def write(self, streams: Iterable[FileStream]) -> Reading:
        records: dict[str, FileRecord] = {}
        for stream in filestream.measured(streams, records):
            self.store.put(f"{self.key}.partial/{stream.name}", b"".join(stream.chunks))
        return records

    def records(self, jobs: int, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        return files.records(self.path, files.below(self.path), jobs=jobs)

    def finish(self, make_way: Callable[[], None] | None = None) -> Backup:
        written = [name for name in files.below(self.path) if name != manifest.NAME]
        for name in (*written, manifest.NAME):
            self.store.put(f"{self.key}.partial/{name}", (self.path / name).read_bytes())
        if make_way:
            make_way()
        self.store.move(f"{self.key}.partial", self.key)
        return self.store.backup(self.key)


@pytest.fixture
def shop(cluster: Cluster, database: str) -> Reached:
    cluster.psql(database, SHOP)
    return Reached(replace(cluster.target(database), environment="dev"))


def test_no_caller_knows_what_kind_of_store_it_is(
    shop: Reached, cluster: Cluster, fresh_database: Any, tmp_path: Path
) -> None:
    store: Store = ObjectStore(tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    made = create.create(shop, store=store, options=DumpOptions(), console=Console(quiet=True))
    assert [each.manifest for each in store.list().backups] == [made.manifest]
    found = store.find("dev", shop.target.database)
    assert verify(found, found.host).structure == "read"
    assert store.find("dev", shop.target.database).checks.intact
    assert differences(found, restored(found, cluster, fresh_database)) == ()
    fetched = transfer.copy(found, LocalStore(tmp_path / "here")).backup
    assert verify(fetched, HERE).structure == "read"
    assert transfer.copy(fetched, store).already


def test_a_copy_into_it_and_damage_there(shop: Reached, tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    local = create.create(
        shop,
        store=LocalStore(tmp_path / "here"),
        options=DumpOptions(),
        console=Console(quiet=True),
    )
    sent = transfer.copy(local, store).backup
    assert (sent.manifest, sent.place) == (local.manifest, f"s3://bucket/{sent.folder}")
    assert sent.proof() == local.proof()
    store.put(f"{sent.folder}/{names.PROOF}", b"x")
    with pytest.raises(NotProven, match=r"proof\.json: 1 bytes, "):
        verify(sent, sent.host)
    with pytest.raises(NotProven, match=r"damaged on this machine: proof\.json: 1 bytes"):
        transfer.copy(sent, LocalStore(tmp_path / "other"))
    healed = transfer.copy(local, store)
    assert healed.replaced.startswith("proof.json: 1 bytes, ")
    assert healed.backup.proof() == local.proof()
    assert [each.id for each in store.list().trash] == [local.id]
    del store.objects[f"{sent.folder}/{manifest.NAME}"]
    with pytest.raises(Refused, match="no backup of database"):
        store.find("dev", shop.target.database)


def test_pruned_kept_and_brought_back(shop: Reached, tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    target = replace(shop.target, backup=Settings(keep=Keep(last=1), trash="7d"))
    made = [
        create.create(shop, store=store, options=DumpOptions(), console=Console(quiet=True)).id
        for _ in range(3)
    ]
    hands.keep(store.find("dev", target.database, made[0]), "why not")
    done = prune(store, target, lambda plan: False)
    assert [backup.id for backup in done.dropped] == [made[1]]
    assert {backup.id for backup in store.list().backups} == {made[0], made[2]}
    hands.untrash(store, "dev", target.database, made[1])
    assert store.find("dev", target.database, made[1]).id == made[1]
    store.drop("dev", target.database, [made[1]], journal.clock() - timedelta(days=8))
    assert [each.id for each in prune(store, target, lambda plan: False).removed] == [made[1]]
    assert {backup.id for backup in store.list().backups} == {made[0], made[2]}
