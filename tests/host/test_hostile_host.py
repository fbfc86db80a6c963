"""A host that sends what no script of ours sends: answers have a bound in bytes and in time."""

from __future__ import annotations

import io
import os
import resource
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from commands import sh
from hosts import DatabaseHost
from waiting import PATIENCE, until

from backups import unpacked
from pgtasks.backup.store import lines, remote_index
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.errors import Failed, NotProven, Unreachable
from pgtasks.host import disk, streams, tools
from pgtasks.host.local import HERE
from pgtasks.host.ssh import facts
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import Link
from pgtasks.settings.ssh import Login

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _flat() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024, f"{grown} KiB more than before"


# a stream


@pytest.mark.parametrize("size", [1 << 40, 4096, -1])
def test_a_stream_has_a_bound_in_bytes(size: int) -> None:
    def read() -> None:
        with streams.reading(HERE, sh("exec cat /dev/zero"), most=MIB) as source:
            while source.read(size):
                pass

    with pytest.raises(Failed, match=r"^this machine: sh: more came than there can be"):
        read()


@pytest.mark.parametrize("script", ["exec sleep 600", "while echo x; do sleep 0.1; done"])
def test_a_stream_has_a_bound_in_time(script: str) -> None:
    began = time.monotonic()
    stream = streams.reading(HERE, sh(script), most=MIB, patience=1)
    with pytest.raises(Unreachable, match=r"next to nothing came in 1 s$"), stream as source:
        source.read(MIB)
    assert time.monotonic() - began < 20


def test_a_stream_that_is_slow_is_read_to_its_end() -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 4096 /dev/zero; sleep 0.5; done"
    with streams.reading(HERE, sh(script), most=MIB, patience=2.5) as source:
        time.sleep(3)  # what the reader takes for itself does not count
        assert source.read() == bytes(12 * 4096)


# an archive


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


class Endless(io.RawIOBase):
    """Some bytes, and then zeros for ever."""

    def __init__(self, first: bytes) -> None:
        self.first = first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part, self.first = self.first[: len(buffer)], self.first[len(buffer) :]
        buffer[: len(part)] = part
        buffer[len(part) :] = bytes(len(buffer) - len(part))
        return len(buffer)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (header("././@LongLink", 7 << 30, tarfile.GNUTYPE_LONGNAME), "a name of 7,516,192,768"),
        (header("x", 7 << 30, tarfile.XHDTYPE), "a name of 7,516,192,768"),
        (header("manifest.json", 3 << 30), "'manifest.json' of 3,221,225,472 bytes"),
        (header("manifest.json", -MIB), "has -1048576 bytes"),
        (header("././@LongLink", -MIB, tarfile.GNUTYPE_LONGNAME), "has -1048576 bytes"),
    ],
)
def test_an_archive_of_small_files_has_no_large_ones(
    tmp_path: Path, head: bytes, words: str
) -> None:
    source = io.BufferedReader(Endless(head))  # type: ignore[arg-type]
    with pytest.raises(NotProven, match=words):
        unpacked(source, tmp_path, admit=remote_index.admit)


# the scripts' lines


@pytest.mark.parametrize("content", [b"x" * 100_000, b"dead a/b/.c.partial\n" * 5_000_000])
def test_lines_have_a_bound(content: bytes) -> None:
    with pytest.raises(Failed, match="longer lines than expected"):
        for _ in lines.words(io.BytesIO(content)):
            pass


@pytest.mark.parametrize("line", ["", "no tab", "a\tb", "a\tb\tc\td\te", "x" * 1_000_000])
def test_a_line_that_names_no_tools(line: str) -> None:
    with pytest.raises(Failed, match=r"^the search for PostgreSQL's tools printed '[^\n]{0,80}'$"):
        tools._toolset(line)


def test_numbers_that_are_none() -> None:
    digits = "9" * 10_000
    said = (
        f"clock\t{digits}\ncpus\t{digits}\nmemory\t{digits}\ndisk /\tx {digits} {digits} 1 1% /\n"
    )
    found = facts.parsed(said, 1.0, 2.0)
    assert (found.cpus, found.memory, found.disks) == (0, 0, ())
    assert lines.listed(f"- 1 1 1 {digits} a b c ./x")[1] == 0
    assert disk.parse("/", f"x {digits} 1 {digits} 1% /") is None


# a host


@pytest.fixture
def hostile(db1: DatabaseHost) -> Iterator[Callable[[str], RemoteStore]]:
    """Return what makes a host whose tar is a script."""
    user = db1.user_with(role=False, shell="/bin/bash")
    home = db1.path(f"/home/{user}")
    made = db1.do("mkdir", "-p", f"/home/{user}/bin", f"/home/{user}/b/prod/x/1", user=user)
    assert made == ""
    db1.do("touch", f"/home/{user}/b/prod/x/1/manifest.json", user=user)
    (home / ".bashrc").write_text("export PATH=~/bin:$PATH\n")
    opened: list[SshHost] = []

    def make(script: str) -> RemoteStore:
        (home / "bin" / "tar").write_text(f"#!/bin/sh\n{script}\n")
        (home / "bin" / "tar").chmod(0o755)
        opened.append(SshHost(Link(Login(**db1.place(user=user)))))
        return RemoteStore(opened[-1], "b")

    yield make
    for host in opened:
        host.close()
    with suppress(AssertionError):
        until(lambda: not db1.processes(), lambda: "")
    for each in db1.processes():
        with suppress(ProcessLookupError):
            os.kill(each.outside, signal.SIGKILL)


@pytest.mark.parametrize(
    "script",
    [
        "exec cat /dev/zero | tr '\\0' x",
        "exec yes",
        "cat ~/head; exec cat /dev/zero",
        "while printf x; do sleep 0.05; done",
        "exec sleep 4717",
        "exec cat /dev/zero >&2",
    ],
)
def test_a_list_of_backups_ends(
    hostile: Callable[[str], RemoteStore],
    db1: DatabaseHost,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    monkeypatch.setattr("pgtasks.host.streams.PATIENCE", 2.0)
    monkeypatch.setattr("pgtasks.backup.store.remote._LISTING", 64 * MIB)
    there = hostile(script)
    (account,) = {"/home/" + there.host.name.partition("@")[0]}
    db1.path(f"{account}/head").write_bytes(header("prod/x/1/manifest.json", 3 << 30))
    began = time.monotonic()
    with pytest.raises((Failed, NotProven, Unreachable), match=r"^[^\n]*$"):
        there.list()
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    "name", ["a//b/c", "a/./b/c", "./a/b/c", "a/b/c/", "a/b", "a/b/c/d", "/a/b"]
)
def test_a_folder_has_one_spelling(tmp_path: Path, name: str) -> None:
    index = remote_index.Index("there:", tmp_path)
    with pytest.raises(NotProven):
        index.listed("backup", name)
    assert not index.folders
    index.listed("backup", "a/b/c")
    assert [*index.folders] == ["a/b/c"]
