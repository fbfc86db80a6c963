"""Recognize a dump that somebody else made by its content, never by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgtasks.backup.foreign import packing
from pgtasks.backup.format.foreign import packing_of
from pgtasks.backup.store import choice
from pgtasks.errors import Refused
from pgtasks.host import plainfile
from pgtasks.report import typed

Kind = Literal["plain", "custom", "directory", "tar"]
_LOOK = 4096  # bytes
_SOUND = 64 << 20  # unpacked bytes of what is not recognized that are read, to find damage
_CUSTOM, _FORMAT_AT = b"PGDMP", 10
_TAR_TOC = b"toc.dat\0"
_MAGIC_OF_TAR = slice(257, 262)
_ZIP = b"PK\3\4"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_WORDS = rb"--|/\*|\\|SET|CREATE|BEGIN|START|INSERT|COPY|SELECT|DROP|ALTER|DO|GRANT"
_SQL = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:%s)\b|(?:\xef\xbb\xbf)?\s*(?:--|/\*|\\)" % _WORDS, re.I)
_ID = re.compile(r"[0-9TZa-f-]+")  # an ID of ours, or the beginning of one


@dataclass(frozen=True)
class Form:
    """A dump: `kind` is that of pg_dump, `packing` a compression around it, if there is one."""

    path: Path
    kind: Kind
    packing: str = ""

    def __str__(self) -> str:
        words = "SQL" if self.kind == "plain" else f"format {self.kind}"
        return f"{words}, {self.packing}" if self.packing else words


def found(which: str | None) -> Form | None:
    """Return the dump that `--backup` names, None if it names a backup, or nothing.

    Raises Refused for a file that looks like a dump and cannot be one.
    """
    if which is None or choice.kind(which) in ("latest", "ask"):
        return None
    path = Path(which).expanduser()
    if choice.holds_backup(path) or path.name == "manifest.json":
        return None
    return None if is_id(which) else look(path)


def is_id(which: str) -> bool:
    """Return whether a name can only be an ID, or the beginning of one."""
    return choice.kind(which) == "id" and _ID.fullmatch(which) is not None


def look(path: Path) -> Form | None:
    """Return the form of a dump by its first bytes, None if it is not recognized."""
    path = path.resolve() if path.is_symlink() else path  # the user's own, not one in an archive
    if path.is_dir():
        return (
            Form(path, "directory")
            if plainfile.head(path, "toc.dat", _LOOK).startswith(_CUSTOM)
            else None
        )
    head = plainfile.head(path.parent, path.name, _LOOK)
    packed = packing_of(head)
    if packed:
        head = packing.head(path, packed, _LOOK)
    if head.startswith(_CUSTOM):
        if head[_FORMAT_AT : _FORMAT_AT + 1] == b"\3" and not packed:
            raise Refused(
                f"{str(path)!r} is the table of contents of a dump (format directory): name its "
                "folder"
            )
        return Form(path, "custom", packed)
    if head.startswith(_TAR_TOC):
        return Form(path, "tar", packed)
    if head.startswith(_UTF_16):
        raise Refused(f"{str(path)!r} is UTF-16 text: convert it (iconv -f UTF-16 -t UTF-8)")
    named = ".sql" in path.suffixes
    if head and b"\0" not in head and (named or _SQL.match(head)):
        return Form(path, "plain", packed)
    if packed:
        packing.check(path, packed, _SOUND)
    return None


def described(path: Path) -> str:
    """Say why a path is neither a backup nor a dump, after `look` has not recognized it."""
    return f"no backup at {str(path)!r}: {_fault(path)}"


def _fault(path: Path) -> str:
    if not path.exists():
        ids = typed.task("backup.list")
        return f"nothing is there, expected an ID of {ids}, the folder of a backup, or a dump"
    if path.is_dir():
        return "the folder has neither the manifest.json of a backup nor the toc.dat of a dump"
    head = plainfile.head(path.parent, path.name, _LOOK)
    if not head:
        return "it is no file" if not path.is_file() else _unread(path)
    packed = packing_of(head)
    inner = packing.head(path, packed, _LOOK) if packed else head
    by = f", compressed by {packed}" if packed else ""
    if inner[_MAGIC_OF_TAR].startswith(b"ustar"):
        return f"it is a tar{by}, and none of pg_dump: unpack it, and name what it holds"
    if head.startswith(_ZIP):
        return "it is a zip archive: unpack it, and name what it holds"
    if packed and not inner:
        return f"nothing is in it{by}"
    return f"it is neither the folder of a backup nor a dump of pg_dump or SQL{by}"


def _unread(path: Path) -> str:
    try:
        return "it cannot be read" if path.stat().st_size else "the file is empty"
    except OSError as exc:
        return f"it cannot be read ({exc.strerror})"
