"""The shell of a database host, which runs the scripts of a store there."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pgtasks.backup.format.records import FileRecord, Reading, Unread
from pgtasks.backup.store import lines, scripts, tarstream
from pgtasks.backup.store.backup import CheckNames
from pgtasks.backup.store.filestream import FileStream, Tell
from pgtasks.errors import Failed, NotProven, PgtasksError
from pgtasks.host import streams
from pgtasks.host.base import Command, Host

_READ = 1_000_000  # lowest rate at which a host reads its own disk, in bytes per second
_LARGEST = 10**13  # largest backup, in bytes, for the timeout of reading it


@dataclass(frozen=True)
class Shell:
    """Runs scripts on a host; errors name the folder of a store there, `place`."""

    host: Host
    place: str

    @property
    def prefix(self) -> str:
        """Return the prefix of paths in messages."""
        return f"{self.host.name}:"

    def run(self, command: Command, given: bytes = b"") -> Sequence[tuple[str, str, str]]:
        """Return the lines that a script prints; first it may write much to the disk.

        `given` is what it reads.
        """
        with self.reading(command, "written", given=given) as source:
            return [*lines.words(source)]

    def listed(self, command: Command, given: bytes) -> Sequence[tuple[str, int, str]]:
        """Return name, size and kind of the files that a script lists."""
        with self.reading(command, given=given) as source:
            return [lines.listed(line) for line in lines.raw(source)]

    @contextmanager
    def reading(
        self, command: Command, what: str = "read", *, most: int = lines.MOST, given: bytes = b""
    ) -> Iterator[streams.Source]:
        """Yield the output of a script."""
        with (
            self._worded(what),
            streams.reading(self.host, command, most=most, given=given) as source,
        ):
            yield source

    @contextmanager
    def _worded(self, what: str) -> Iterator[None]:
        """Name the folder and the setting behind it when a script fails."""
        try:
            yield
        except streams.CutShort:
            raise
        except Failed as exc:
            words = exc.hint.strip().splitlines()[:1]
            if not words:
                raise
            raise Failed(
                f"the backups of {self.place} cannot be {what}: {words[0]} "
                "(ssh.backups names the folder)"
            ) from None

    def put(self, path: str, content: bytes) -> None:
        """Write a small file on the host, replacing an existing one."""
        before, _, name = path.rpartition("/")
        command = scripts.replace(path, f"{before}/.{name}.{secrets.token_hex(8)}")
        with self._worded("written"), streams.writing(self.host, command) as sink:
            sink.write(content)

    def unpack(self, path: str, arriving: Iterable[FileStream]) -> None:
        """Write files below a folder on the host."""
        with self._worded("written"), streams.writing(self.host, scripts.unpack(path)) as sink:
            tarstream.pack(sink, arriving)

    def remove(self, path: str) -> None:
        """Remove a folder on the host, if the connection still works."""
        try:
            self.run(scripts.remove(path))
        except PgtasksError:
            pass  # the next run removes it

    def sums(
        self,
        folder: str,
        jobs: int,
        *,
        check: CheckNames | None = None,
        tell: Tell | None = None,
        new: bool = False,
    ) -> Reading:
        """Return the records of all files below a folder on the host, flushed if they are `new`."""
        sizes, sums = {}, {}
        with self.reading(scripts.sums(folder, max(1, jobs), new=new), "read") as source:
            for line in lines.raw(source):
                name, size, kind = lines.listed(line)
                if kind:
                    raise NotProven(f"{self.prefix}{folder}/{name}: {kind}")
                sizes[name] = size
            source.wait(min(sum(sizes.values()), _LARGEST) / _READ)
            if check:
                check(set(sizes))
            for sha256, _, name in lines.words(source):
                plain = name.strip(" *").removeprefix("./")
                sums[plain] = sha256
                if tell:
                    tell(sizes.get(plain, 0))
        return {
            name: FileRecord(size, sums[name]) if name in sums else Unread()
            for name, size in sizes.items()
        }
