"""Files as a tar stream, and the commands at its ends."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from backups import below, unpacked
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.store import filestream, tarstream
from pgtasks.backup.store.filestream import FileStream
from pgtasks.errors import Failed, NotProven
from pgtasks.host import streams
from pgtasks.host.base import Command
from pgtasks.host.local import HERE


class TestArchive:
    def stream(self, *members: tuple[tarfile.TarInfo, bytes], **options: Any) -> io.BytesIO:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", **options) as tar:
            for info, data in members:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return io.BytesIO(file.getvalue())

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/.."])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(NotProven, match="leads out of its folder"):
            unpacked(self.stream((tarfile.TarInfo(name), b"x")), tmp_path)
        assert below(tmp_path) == []

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_what_is_no_file(self, tmp_path: Path, kind: bytes) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        with pytest.raises(NotProven, match="not a regular file"):
            unpacked(self.stream((info, b"")), tmp_path)
        assert below(tmp_path) == []

    def test_a_name_that_comes_twice(self, tmp_path: Path) -> None:
        members = [(tarfile.TarInfo("x"), b"1"), (tarfile.TarInfo("x"), b"2")]
        with pytest.raises(NotProven, match="'x' twice"):
            unpacked(self.stream(*members), tmp_path)

    @pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_long_names(self, tmp_path: Path, format: int) -> None:
        name = "/".join(["a" * 60] * 3)
        unpacked(self.stream((tarfile.TarInfo(name), b"x" * 600), format=format), tmp_path)
        assert (tmp_path / name).read_bytes() == b"x" * 600

    @pytest.mark.parametrize("size", [1, 511, 512, 700, 1024])
    def test_cut_short(self, tmp_path: Path, size: int) -> None:
        data = self.stream((tarfile.TarInfo("x"), b"x" * 600)).getvalue()
        with pytest.raises(streams.CutShort):
            unpacked(io.BytesIO(data[:size]), tmp_path)

    def test_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(NotProven, match="not a tar archive"):
            unpacked(io.BytesIO(b"Welcome!" * 100), tmp_path)

    def test_there_and_back(self, tmp_path: Path) -> None:
        source, copy = tmp_path / "a", tmp_path / "b"
        (source / "dump").mkdir(parents=True)
        contents = {"x": b"", "dump/1": b"1" * 512, "dump/2": os.urandom(3_000_001)}
        for name, data in contents.items():
            (source / name).write_bytes(data)
        stream = io.BytesIO()
        told: list[int] = []
        sent: dict[str, FileRecord] = {}
        leaving = filestream.measured(
            filestream.told(filestream.opened(source, contents), told.append), sent
        )
        tarstream.pack(stream, leaving)
        copy.mkdir()
        assert unpacked(io.BytesIO(stream.getvalue()), copy, told.append) == sent
        assert {name: (copy / name).read_bytes() for name in contents} == contents
        assert sum(told) == 2 * sum(map(len, contents.values()))

    def test_a_file_that_shrinks(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"x" * 3_000_000)

        class Sink(io.BytesIO):
            def write(self, data: Any) -> int:
                os.truncate(path, 2_000_000)
                return super().write(data)

        with pytest.raises(filestream.UnreadableFile, match="x: it became 1,000,000 bytes shorter"):
            tarstream.pack(Sink(), filestream.opened(tmp_path, ["x"]))


class TestStreams:
    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("echo why >&2; exit 3", "sh failed: exit code 3"),
            # it closes its stdin and ends well all the same
            ("exec <&-; exec sleep 0.2", "did not read all of it"),
        ],
    )
    def test_writing_to_what_stops_early(self, script: str, words: str) -> None:
        def write() -> None:
            with streams.writing(HERE, Command(("/bin/sh", "-c", script))) as sink:
                while True:
                    sink.write(b"x" * 65536)

        with pytest.raises(Failed, match=words):
            write()

    def test_reading_what_fails(self, tmp_path: Path) -> None:
        def read() -> None:
            script = "head -c 700 /dev/zero | tr '\\0' x; echo why >&2; exit 3"
            with streams.reading(HERE, Command(("/bin/sh", "-c", script)), most=1 << 20) as source:
                tarstream._exactly(source, 1000)

        with pytest.raises(Failed, match="sh failed: exit code 3") as info:
            read()
        assert info.value.hint == "why"


def test_a_large_file_is_flushed_and_hashed_while_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, real = [], os.fsync

    def fsync(handle: int) -> None:
        flushed.append(os.fstat(handle).st_size)
        real(handle)

    monkeypatch.setattr(filestream.os, "fsync", fsync)
    monkeypatch.setattr(filestream, "_FLUSHED", 20)
    monkeypatch.setattr(filestream, "_SMALL", 5)
    chunks = [bytes([number]) * 10 for number in range(9)]
    records: dict[str, FileRecord] = {}
    files = [FileStream("a/b", 90, chunks), FileStream("c", 3, [b"x", b"yz"])]
    filestream.laid(tmp_path, filestream.measured(files, records))
    content = b"".join(chunks)
    assert (tmp_path / "a" / "b").read_bytes() == content
    assert records["a/b"] == FileRecord(90, hashlib.sha256(content).hexdigest())
    assert records["c"] == FileRecord(3, hashlib.sha256(b"xyz").hexdigest())
    assert len(flushed) == 4 + 2  # four times on the way, and each file at its end


def test_a_disk_that_fails_while_a_file_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 1:  # the later ones succeed, as those of a disk that has forgotten
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(filestream.os, "fsync", fsync)
    monkeypatch.setattr(filestream, "_FLUSHED", 20)
    chunks = [b"x" * 10] * 9
    with pytest.raises(OSError, match="Input/output error"):
        filestream.laid(tmp_path, [FileStream("a", 90, chunks)])
    assert len(calls) == 5
