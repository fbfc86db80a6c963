"""The backups folder of a database host, worked with from here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from pgtasks.backup.format import names
from pgtasks.backup.format.backup import Backup, Checks
from pgtasks.backup.format.records import FileRecord, Reading, Unread
from pgtasks.backup.store import remote_index, scripts, tarstream
from pgtasks.backup.store.remote_index import FAULTS, Mirror, room, small_names
from pgtasks.backup.store.tarstream import Tell
from pgtasks.errors import Failed, Locked, NotProven, PgtasksError, Refused
from pgtasks.host import disk, streams
from pgtasks.host.local import Command, Host
from pgtasks.server.quoting import folder_name
from pgtasks.settings.ssh import Login

DEFAULT = "pgtasks-backups"
_LINES = 64 << 20  # bytes of lines that a script prints: some 500,000 names
_LINE = 16_384  # of one of them
_LISTING = 4 << 30  # bytes of all manifests; they lie on this machine's disk meanwhile
_FRAME = 16_384  # bytes beside one file in an archive, and at its end
_READ = 1_000_000  # bytes a second that a host reads of its own disk at least
_SIZE = re.compile(r"[0-9]{1,18}")
_LARGEST = 10**13  # bytes of a backup whose reading is waited for
_KINDS = {
    "l": "a symbolic link",
    "p": "a named pipe",
    "s": "a socket",
    "b": "a device",
    "c": "a device",
}


@dataclass(frozen=True)
class Partial:
    """A temporary folder there; `free` are the bytes that its disk has, None if unknown."""

    path: str
    free: int | None
    swept: tuple[str, ...] = ()


class Depot:
    """The folder `ssh.backups` on a host: absolute, or below the home of the account there."""

    def __init__(self, host: Host, folder: str = "") -> None:
        self.host, self.folder = host, folder or DEFAULT

    def __str__(self) -> str:
        return f"{self.host.name}:{self.folder}"

    def home(self, environment: str, database: str) -> str:
        """Return the name of the folder of one database's backups in it."""
        return f"{folder_name(environment)}/{folder_name(database)}"

    # what is there

    def mirror(self) -> Mirror:
        """Return what lies there, with all manifests."""
        path, base, dead, faults = room(self.host), "", [], {}
        with self._reading(scripts.listing(self.folder), "read", most=_LISTING) as source:
            for kind, _, rest in _lines(source):
                if kind == "base":
                    base = rest
                elif kind == "dead":
                    dead.append(rest)
                elif kind in FAULTS:
                    faults[rest] = FAULTS[kind]
                else:
                    remote_index.place(path, rest)
            tarstream.unpack(source, path, admit=remote_index.admit)
        return Mirror(self.host, path, base, tuple(dead), faults)

    def small(self, backup: Backup) -> Backup:
        """Return a backup that lies there with all of it here but the dump."""
        names = [name for name in small_names(backup.manifest) if not (backup.path / name).exists()]
        if names:
            expected = {name: backup.manifest.files[name] for name in names}
            most = sum(one.size + _FRAME for one in expected.values()) + _FRAME
            packed = scripts.pack(backup.folder, names)
            with self._reading(packed, "read", most=most) as source:
                tarstream.unpack(source, backup.path, admit=tarstream.admitting(expected))
        return backup

    def sums(
        self,
        folder: str,
        jobs: int,
        *,
        names: Callable[[set[str]], None] | None = None,
        tell: Tell | None = None,
    ) -> Reading:
        """Return the records of all files below a folder there.

        `names` gets those of the files before they are read, `tell` the bytes read since. Raises
        NotProven for what is neither file nor folder.
        """
        sizes, found = {}, {}
        with self._reading(scripts.sums(folder, max(1, jobs)), "read") as source:
            for line in _raw(source):
                name, size, kind = _listed(line)
                if kind:
                    raise NotProven(f"{self.host.name}:{folder}/{name}: {kind}")
                sizes[name] = size
            source.wait(min(sum(sizes.values()), _LARGEST) / _READ)
            if names:
                names(set(sizes))
            for sha256, _, name in _lines(source):
                plain = name.strip(" *").removeprefix("./")
                found[plain] = sha256
                if tell:
                    tell(sizes.get(plain, 0))
        return {
            name: FileRecord(size, found[name]) if name in found else Unread()
            for name, size in sizes.items()
        }

    # what is made there

    @contextmanager
    def making(
        self, environment: str, database: str, id: str, *, name: str = ""
    ) -> Iterator[Partial | None]:
        """Make a temporary folder there for the length of a block, and remove it then.

        Yields None where there is a finished backup of that ID. `name` sets the folder apart from
        that of another run with the same backup. Where the line is lost, the next run removes it.
        Raises Locked where another run makes that backup, Failed where nothing can be written.
        """
        home = self.home(environment, database)
        path, free, swept = "", None, []
        script = scripts.make(self.folder, home, f".{name or id}.partial", id)
        for kind, _, rest in self._said(script):
            if kind == scripts.THERE:
                yield None
                return
            if kind == scripts.BUSY:
                raise Locked(f"another run is making backup {id} on {self.host.name}")
            if kind == "at":
                path = rest
            elif kind == "free":
                found = disk.parse(path, rest)
                free = found.free if found else None
            else:
                swept.append(rest)
        try:
            yield Partial(path, free, tuple(swept))
        finally:
            self.remove(path)

    def finish(self, partial: Partial, id: str) -> str:
        """Make a temporary folder durable, give it its final name and return where it is."""
        for kind, _, _ in self._said(scripts.finish(partial.path, id)):
            if kind == scripts.THERE:
                raise Refused(f"there is another backup {id} on {self.host.name}")
        return str(PurePosixPath(partial.path).with_name(id))

    def put(self, path: str, content: bytes) -> None:
        """Write a small file there, in the place of one that is there."""
        before, _, name = path.rpartition("/")
        command = scripts.replace(path, f"{before}/.{name}.{secrets.token_hex(8)}")
        with self._worded("written"), streams.writing(self.host, command) as sink:
            sink.write(content)

    def note(self, backup: Backup, checks: Checks) -> None:
        """Write down there when a backup was verified or drilled."""
        self.put(f"{backup.folder}/{names.CHECKS}", checks.text().encode())

    def unpack(self, path: str, send: Callable[[IO[bytes]], None]) -> None:
        """Let a function write an archive, whose files come into a folder there."""
        with self._worded("written"), streams.writing(self.host, scripts.unpack(path)) as sink:
            send(sink)

    def remove(self, path: str) -> None:
        """Remove a folder there, if the line still stands."""
        try:
            self._said(scripts.remove(path))
        except PgtasksError:
            pass  # the next run's sweep does it

    def sweep(self) -> list[str]:
        """Remove what interrupted runs left there, and return it; living runs are left alone."""
        return [rest for _, _, rest in self._said(scripts.sweep(self.folder))]

    def _said(self, command: Command) -> list[tuple[str, str, str]]:
        """Return the lines that a script prints; it may have to write much to disk before."""
        with self._reading(command, "written") as source:
            return list(_lines(source))

    @contextmanager
    def _reading(self, command: Command, what: str, most: int = _LINES) -> Iterator[streams.Source]:
        with self._worded(what), streams.reading(self.host, command, most=most) as source:
            yield source

    @contextmanager
    def _worded(self, what: str) -> Iterator[None]:
        """Say of what a script failed at which folder it was, and which setting names that."""
        try:
            yield
        except streams.CutShort:
            raise
        except Failed as exc:
            words = exc.hint.strip().splitlines()[:1]
            if not words:
                raise
            raise Failed(
                f"the backups of {self} cannot be {what}: {words[0]} (ssh.backups names the folder)"
            ) from None


def holding(backup: Backup) -> Depot:
    """Return the depot that a backup lies in."""
    return Depot(backup.host, str(PurePosixPath(backup.folder).parents[2]))


def _lines(source: IO[bytes]) -> Iterator[tuple[str, str, str]]:
    """Read lines up to an empty one or the end; yield each as its first word and the rest."""
    for line in _raw(source):
        yield line.partition(" ")


def _raw(source: IO[bytes]) -> Iterator[str]:
    left = _LINES
    while (line := source.readline(_LINE)) not in (b"", b"\n"):
        left -= len(line)
        if left < 0 or (len(line) == _LINE and line[-1:] != b"\n"):
            raise Failed("the lines that came from the host are longer than any of ours")
        yield line.rstrip(b"\n").decode("utf-8", "surrogateescape")


def _listed(line: str) -> tuple[str, int, str]:
    """Return name, size and kind (nothing: a file) from a line of ls.

    What is none, such as half a name, is a name.
    """
    fields = line.split(None, 8)
    if len(fields) < 5:
        return line, 0, ""
    if kind := _KINDS.get(fields[0][:1]):
        return fields[-1].removeprefix("./"), 0, kind
    if len(fields) < 9 or not _SIZE.fullmatch(fields[4]):
        return line, 0, ""
    return fields[8].removeprefix("./"), int(fields[4]), ""


def of(host: Host, ssh: Login | None) -> Depot | None:
    """Return the depot on a host that was logged in to, None where that is this machine."""
    return Depot(host, ssh.backups) if ssh else None
