"""Names as people read them, and as file systems take them."""

from __future__ import annotations

from urllib.parse import quote, unquote


def qualified(schema: str, name: str) -> str:
    """Return a name as SQL writes it, quoted only where it must be."""
    return f"{quoted(schema)}.{quoted(name)}"


def quoted(name: str) -> str:
    """Return an identifier for people: quotes where it has more than a-z, 0-9 and _."""
    plain = name.isascii() and name.islower() and name.replace("_", "a").isalnum()
    doubled = name.replace('"', '""')
    return name if plain and not name[0].isdigit() else f'"{doubled}"'


def folder_name(name: str) -> str:
    """Return any name as one that every file system takes: percent-escapes, never hidden."""
    safe = quote(name, safe=" @+=,")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def from_folder_name(name: str) -> str:
    """Return the name that `folder_name` made safe."""
    return unquote(name)
