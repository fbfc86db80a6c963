"""Random damages of a backup, each of which has to be found and named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pgtasks.backup.format import manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.store import tree
from pgtasks.errors import PgtasksError


@dataclass(frozen=True)
class Damage:
    """What was done, and to which file."""

    what: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


def put(folder: Path, other: Path, chance: random.Random) -> Damage:
    """Damage a backup; `other` is the folder of another one."""
    while True:
        name, what = chance.choice(_names(folder)), chance.choice(list(_KINDS))
        if chance.random() < 0.2:
            name, what = manifest.NAME, chance.choice(list(_OF_MANIFEST))
            _OF_MANIFEST[what](folder, chance)
            return Damage(what, name)
        before = (folder / name).read_bytes()
        found = _KINDS[what](folder / name, other / name, chance)
        if found is not None and not _same(folder / name, before):
            return Damage(what, found or name)


def assert_found(look: Callable[[], None], damage: Damage) -> None:
    """Assert that a damage is found, with exit code 5 and the name of the file."""
    with pytest.raises(PgtasksError) as raised:
        look()
    words = f"{raised.value.message}\n{raised.value.hint}"
    found = (raised.value.exit_code, damage.name in words)
    assert found == (5, True), (str(damage), words)


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _same(path: Path, before: bytes) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes() == before


# Each returns the name that an error must have, empty for the file's own, None if it cannot be.
Kind = Callable[[Path, Path, random.Random], "str | None"]


def _cut(path: Path, other: Path, chance: random.Random) -> str:
    os.truncate(path, chance.randrange(path.stat().st_size))
    return ""


def _flipped(path: Path, other: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return ""


def _removed(path: Path, other: Path, chance: random.Random) -> str:
    path.unlink()
    return ""


def _grown(path: Path, other: Path, chance: random.Random) -> str:
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randint(1, 5000)))
    return ""


def _zeroed(path: Path, other: Path, chance: random.Random) -> str:
    """Write zeros as a file system does that has lost a page."""
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content)) & ~511
    end = min(len(content), start + 512 * chance.randint(1, 8))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return ""


def _of_another(path: Path, other: Path, chance: random.Random) -> str | None:
    if not other.is_file():
        return None
    shutil.copyfile(other, path)
    return ""


def _of_beside(path: Path, other: Path, chance: random.Random) -> str | None:
    beside = [each for each in path.parent.iterdir() if each.is_file() and each != path]
    if path.name == manifest.NAME or not beside:  # a proof has a format of its own
        return None
    shutil.copyfile(chance.choice(sorted(beside)), path)
    return ""


def _linked(path: Path, other: Path, chance: random.Random) -> str:
    """Put a link to the same content: whoever writes there next writes the backup."""
    elsewhere = path.with_name(f".elsewhere-{chance.randrange(10**9)}")
    path.rename(elsewhere)
    path.symlink_to(elsewhere.name)
    return ""


def _a_pipe(path: Path, other: Path, chance: random.Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return ""


def _a_folder(path: Path, other: Path, chance: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return ""


_KINDS: dict[str, Kind] = {
    "cut": _cut,
    "with a bit flipped": _flipped,
    "removed": _removed,
    "grown": _grown,
    "with zeros": _zeroed,
    "of another backup": _of_another,
    "of a file beside": _of_beside,
    "a link": _linked,
    "a pipe": _a_pipe,
    "a folder": _a_folder,
}


def _edited(folder: Path, chance: random.Random) -> None:
    """Change a value by hand, the checksum stays."""
    path = folder / manifest.NAME
    document = json.loads(path.read_text())
    key = chance.choice([key for key in document if key not in ("files", "format", "checksum")])
    value = document[key]
    document[key] = not value if isinstance(value, bool) else f"{value}0"
    if isinstance(value, int) and not isinstance(value, bool):
        document[key] = value + 1
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _newer(folder: Path, chance: random.Random) -> None:
    made = replace(tree.manifest_in(folder), format=manifest.FORMAT + chance.randint(1, 9))
    (folder / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")


def _no_json(folder: Path, chance: random.Random) -> None:
    text = (folder / manifest.NAME).read_text()
    content = chance.choice(["", "{", "null", "[]", text[1:], text * 2, "[" * 100_000, "\0" * 99])
    (folder / manifest.NAME).write_text(content)


def _leading_out(folder: Path, chance: random.Random) -> None:
    """Let a whole manifest name a file outside."""
    made = tree.manifest_in(folder)
    name = chance.choice(
        ["../precious", "/etc/passwd", "dump/../../precious", "a/..", ".x", "a\nb"]
    )
    records = {**made.files, name: FileRecord(1, "0" * 64)}
    text = manifest.text(replace(made, files=records))
    (folder / manifest.NAME).write_text(text, encoding="utf-8")


_OF_MANIFEST: dict[str, Callable[[Path, random.Random], None]] = {
    "edited": _edited,
    "of a newer format": _newer,
    "not JSON": _no_json,
    "that leads out": _leading_out,
}
