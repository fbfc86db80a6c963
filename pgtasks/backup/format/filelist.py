"""The list of files in the text of a manifest, which is decoded only when it is asked for.

A list of thousands of backups needs the sum of their sizes alone, and to decode the records takes
five times as long as all the rest.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from pgtasks.backup.format.records import FileRecord

_NAME = rb"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
_RECORD = (
    rb'\n    "%s": \{\n      "sha256": "%s",\n      "size": %s\n    \}'  # as manifest.text lays it
)
_ONE = _RECORD % (_NAME, rb"[0-9a-f]{64}", rb"(?:0|[1-9][0-9]{0,17})")
_LIST = re.compile(rb'\n  "files": (\{(?:%s,)*%s\n  \})' % (_ONE, _ONE))
_EACH = re.compile(_RECORD % (b"(%s)" % _NAME, rb"([0-9a-f]{64})", rb"([0-9]+)"))
_SIZE = re.compile(rb'\n      "size": ([0-9]+)\n')


class FileList(Mapping[str, FileRecord]):
    """The records of a manifest's files by name; `size` is the sum of their sizes."""

    def __init__(self, text: bytes | memoryview) -> None:
        sizes = _SIZE.findall(text)
        self._text, self._number = text, len(sizes)
        self.size = sum(map(int, sizes))

    @functools.cached_property
    def _records(self) -> dict[str, FileRecord]:
        return {
            name.decode(): FileRecord(int(size), sha256.decode())
            for name, sha256, size in _EACH.findall(self._text)
        }

    def __getitem__(self, name: str) -> FileRecord:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return self._number  # of names, which are different: `manifest.parse` found no change

    def __repr__(self) -> str:
        return f"FileList({self._records!r})"


def split(content: bytes) -> tuple[bytes, FileList | None]:
    """Return the text of a manifest without its list of files, and that list.

    A list that is not as `manifest.text` lays it out stays in the text.
    """
    found = _LIST.search(content)
    if found is None:
        return content, None
    listed = FileList(memoryview(content)[found.start(1) : found.end(1)])
    return content[: found.start(1)] + b"{}" + content[found.end(1) :], listed
