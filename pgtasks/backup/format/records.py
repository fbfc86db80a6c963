"""Sizes and checksums of files, and differences from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pgtasks.host.decoding import Count, Digest


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of one file."""

    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a file could not be read."""

    reason: str = "cannot be read"


Reading = Mapping[str, FileRecord | Unread]
"""The records of the files that were read, by name."""


def names_differing(expected: Collection[str], actual: Collection[str]) -> list[str]:
    """Return a line for each missing file, then for each unexpected one."""
    missing, extra = set(expected) - set(actual), set(actual) - set(expected)
    lines = [f"{name}: missing" for name in sorted(missing)]
    return lines + [f"{name}: not part of the backup" for name in sorted(extra)]


def differences(expected: Mapping[str, FileRecord], actual: Reading) -> list[str]:
    """Return one line for each file that is missing, unexpected or different."""
    lines = names_differing(expected.keys(), actual.keys())
    for name in sorted(expected.keys() & actual.keys()):
        if fault := difference(expected[name], actual[name]):
            lines.append(f"{name}: {fault}")
    return lines


def difference(expected: FileRecord, actual: FileRecord | Unread) -> str:
    """Return how a file differs from its record, or nothing."""
    if isinstance(actual, Unread):
        return actual.reason
    return size_difference(expected, actual.size) or (
        "" if actual == expected else "its content was changed"
    )


def size_difference(expected: FileRecord, size: int) -> str:
    """Return how the size of a file differs from its record, or nothing."""
    return "" if size == expected.size else f"{size:,} bytes, {expected.size:,} were written"
