"""Choose the compression of a dump from those that pg_dump supports."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.errors import BadConfiguration, VersionMismatch
from pgtasks.host.tools import Toolset
from pgtasks.settings import fields
from pgtasks.settings.blocks import COMPRESSIONS, COMPRESSIONS_LISTED

AUTO = "auto"
# zstd 1 is as fast as gzip 1, which needs a fifth more bytes; every pg_restore can read gzip
_PREFERRED = ("zstd:1", "gzip:1")


def chosen(wanted: str | None, toolset: Toolset, readers: Sequence[Toolset] = ()) -> str:
    """Return the compression for these tools: `zstd:1`, `gzip:6`, `lz4`, `none`.

    By default, it is one that some of `readers` can decompress, if any are given. Raises
    BadConfiguration for an invalid value, VersionMismatch for one that the tools lack.
    """
    if wanted in (None, AUTO):
        usable = toolset.compressions
        if readers:
            usable &= frozenset().union(*(reader.compressions for reader in readers))
        return next(name for name in _PREFERRED if algorithm(name) in usable)
    assert wanted is not None
    _check(wanted)
    if algorithm(wanted) not in toolset.compressions:
        known = ", ".join(sorted(toolset.compressions))
        raise VersionMismatch(
            f"pg_dump {toolset} cannot compress with {wanted!r}, only with: {known}"
        )
    return wanted


def algorithm(compression: str) -> str:
    """Return `zstd` of `zstd:1`."""
    return compression.partition(":")[0]


def _check(wanted: str) -> None:
    if wanted not in COMPRESSIONS:
        known = fields.meant(wanted, COMPRESSIONS, COMPRESSIONS_LISTED)
        raise BadConfiguration(f"backup.compression: {wanted!r}, {known}")


def argument(compression: str, major: int) -> str:
    """Return pg_dump's option; before version 16 it takes only a gzip level."""
    if major >= 16:
        return f"--compress={compression}"
    name, _, level = compression.partition(":")
    return "--compress=0" if name == "none" else f"--compress={level or 6}"
