"""Quote names for people and for file systems, and read quoted ones."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote


def qualified(schema: str, name: str) -> str:
    """Return a qualified name in SQL, quoted only if necessary."""
    return f"{quoted(schema)}.{quoted(name)}"


def quoted(name: str) -> str:
    """Return an identifier, quoted if it has more than a-z, 0-9 and _."""
    plain = name.isascii() and name.islower() and name.replace("_", "a").isalnum()
    doubled = name.replace('"', '""')
    return name if plain and not name[0].isdigit() else f'"{doubled}"'


def identifier(name: str) -> str:
    """Return an identifier in double quotes, for SQL: it may be a keyword."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def parted(text: str, separator: str) -> list[str]:
    """Return the parts of a text; a separator within double quotes belongs to a name."""
    parts = [""]
    for piece in re.findall(r'"[^"]*"?|[^"]', text):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


# Bytes of a name that are not valid UTF-8: a SQL_ASCII database has no encoding, nor do the names
# of databases and roles. Each byte becomes a private-use character (U+F780 to U+F7FF), which is
# valid in files and on terminals, and is converted back when it is sent.
_SHOWN = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_ESCAPED = {shown: escaped for escaped, shown in _SHOWN.items()}


def from_bytes(data: bytes) -> str:
    """Decode text of a server or an archive, with any bytes."""
    return data.decode("utf-8", "surrogateescape").translate(_SHOWN)


def to_bytes(text: str) -> bytes:
    """Encode text that `from_bytes` decoded."""
    return text.translate(_ESCAPED).encode("utf-8", "surrogateescape")


def folder_name(name: str) -> str:
    """Return a name that is valid in every file system: percent-escaped, never hidden."""
    safe = quote(name, safe=" @+=,")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def from_folder_name(name: str) -> str:
    """Return the original name of a folder."""
    return unquote(name)
