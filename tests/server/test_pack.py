"""The files of a dump, compressed while a program writes them."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import sh
from waiting import until

from pgtasks.errors import Failed
from pgtasks.host import inotify, sparse
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import Pipeline
from pgtasks.server.dump import pack
from pgtasks.server.dump.pack import Packer

PIECE = os.urandom(1 << 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not pack.possible(tmp_path):
        pytest.skip("no isal, no inotify, or a file system without holes: nothing to install")
    return tmp_path / "dump"


@pytest.fixture
def packer(folder: Path) -> Iterator[Packer]:
    with Packer(folder, jobs=2) as packer:
        yield packer


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_what_a_program_writes_is_compressed(folder: Path, packer: Packer) -> None:
    script = (
        'cd "$1"; for i in 1 2 3 4 5; do seq $((i * 100000)) >$i.dat; done; : >6.dat; '
        "echo large >blob_7.dat; echo toc >toc.dat; echo toc >blobs.toc"
    )
    with Pipeline(HERE, [sh(script, folder)]) as running:
        running.check()
        files = packer.finish()
    assert sorted(files) == [*(f"{n}.dat.gz" for n in range(1, 7)), "blob_7.dat.gz"]
    for name, packed in files.items():
        content = (folder / name).read_bytes()
        assert (packed.size, packed.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    numbers = "".join(f"{n}\n" for n in range(1, 500_001)).encode()
    assert unpacked(folder / "5.dat.gz") == numbers
    assert unpacked(folder / "6.dat.gz") == b""
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".gz") == [
        "blobs.toc",
        "toc.dat",
    ]


def test_a_file_is_read_while_it_grows_and_gives_its_space_back(
    folder: Path, packer: Packer
) -> None:
    with (folder / "1.dat").open("wb", buffering=0) as file:
        for _ in range(1024):  # 64 MiB
            file.write(PIECE)
        until(lambda: file_blocks(folder / "1.dat") < 16 << 20)
        assert not packer._packed
    assert set(packer.finish()) == {"1.dat.gz"}
    assert unpacked(folder / "1.dat.gz") == PIECE * 1024


def file_blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_events_that_are_lost_lose_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify.Watch, "wait", lambda self, seconds: [])
    with Packer(folder, jobs=2) as packer:
        for number in range(50):
            (folder / f"{number}.dat").write_bytes(b"%d" % number)
        assert len(packer.finish()) == 50
    assert unpacked(folder / "49.dat.gz") == b"49"


def test_the_program_does_not_wait_for_files_whose_end_was_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "_BACKLOG", 0)
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    script = (
        f'cd "$1"; for i in $(seq {queue // 2}); do : >$i.toc; done; '
        "head -c 4000000 /dev/urandom >1.dat; head -c 4000000 /dev/urandom >2.dat; echo 3 >3.dat"
    )
    packer = Packer(folder, jobs=2)
    with Pipeline(HERE, [sh(script, folder)]) as running:
        running.check()
    with packer, Pipeline(HERE, [sh("true", folder)]) as running:
        until(lambda: packer._watch.lost)
        packer._notice(["1.dat", "2.dat"])  # as if these had been created before the overflow
        packer.look(running)
        assert not packer._paused
        running.check()
        assert set(packer.finish()) == {"1.dat.gz", "2.dat.gz", "3.dat.gz"}


def test_the_program_waits_while_too_much_is_uncompressed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "_BACKLOG", 1 << 20)
    steps: list[str] = []

    class Noted(Pipeline):
        def suspend(self) -> None:
            steps.append("suspended")
            super().suspend()

        def resume(self) -> None:
            steps.append("resumed")
            super().resume()

    script = 'cd "$1"; for i in 1 2 3 4 5 6; do head -c 40000000 /dev/urandom >$i.dat; done'
    with Packer(folder, jobs=2) as packer, Noted(HERE, [sh(script, folder)]) as running:
        while not running.wait(0.01):
            packer.look(running)
        running.check()
        assert len(packer.finish()) == 6
    assert steps[:2] == ["suspended", "resumed"]
    assert len(unpacked(folder / "6.dat.gz")) == 40_000_000


def test_an_error_is_one_line(folder: Path, packer: Packer) -> None:
    (folder / "1.dat.gz").write_bytes(b"of somebody else")
    (folder / "1.dat").write_bytes(b"rows")
    with pytest.raises(Failed, match="compressing the dump failed, File exists"):
        packer.finish()
    assert (folder / "1.dat.gz").read_bytes() == b"of somebody else"


def test_a_link_is_not_followed(folder: Path, packer: Packer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "1.dat").symlink_to(tmp_path / "secret")
    with pytest.raises(Failed, match="compressing the dump failed, Too many levels"):
        packer.finish()
    assert (tmp_path / "secret").read_text() == "secret"


def test_leaving_the_block_ends_it(folder: Path) -> None:
    with (folder.parent / "1.dat").open("wb", buffering=0) as file:
        file.write(PIECE)
        with Packer(folder, jobs=2):
            os.link(folder.parent / "1.dat", folder / "1.dat")  # which nobody closes
            until(lambda: (folder / "1.dat.gz").exists())
    assert (folder / "1.dat").exists()


def test_a_hole_reads_as_zeros(tmp_path: Path) -> None:
    if not sparse.possible(tmp_path):
        pytest.skip("a file system without holes: nothing to install")
    path = tmp_path / "file"
    path.write_bytes(PIECE * 4)
    with path.open("r+b") as file:
        sparse.punch(file.fileno(), 0, len(PIECE))
    assert path.read_bytes() == bytes(len(PIECE)) + PIECE * 3
    assert file_blocks(path) <= 3 * len(PIECE)
