"""Random text, read by our lexer and by psql's own: do both see the same commands?"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from servers import Cluster

from pgtasks.server.psql.commands import Command, CommandNotAllowed
from pgtasks.server.psql.lexer import Lexer

_PARTS = (
    *("'", "''", "E'", "e'", "'e", "N'", "b'", "U&'", "aE'", "1e'", "_E'", "\\'", "\\\\'", "'\\"),
    *('"', '""', 'U&"', "$$", "$a$", "$b$", "$a", "a$", "$1", "$1$", "1$", "$ab$", "$é$", "é$$"),
    *("/*", "*/", "/**/", "/*/", "**/", "*", "/", "--", "-", "+--", "*--", "/*--", "@/*", "<=*/"),
    *("(", ")", ";", "\\;", "\\:", ":", "::", ":=", ":a", ":'a'", ':"a"', ":'a", ":{?a}", "::'"),
    *(
        " ",
        " ",
        " ",
        "\t",
        "a",
        "1",
        "1.5e",
        "0x1f",
        "1_0",
        "2e-",
        ".5",
        "..",
        "1.",
        "$2a",
        "1E+3",
        "é",
        "select",
        "begin",
        "end",
        "E",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "|",
        "&",
        "#",
        "?",
        "!",
        "%",
        "^",
        "~",
        "`",
        ",",
        ".",
        "=",
        "\r",
        "\r",
        "'\r'",
    ),
)
# In a branch that is not taken psql sends nothing to the server, and reads all the same.
_MARK = "\\endif \\warn {} \\if false \\\\"


def texts(seed: int, count: int) -> list[list[str]]:
    """Return random texts, each as lines with marks that are commands where psql sees commands."""
    chance = random.Random(seed)
    return [_text(chance) for _ in range(count)]


def _text(chance: random.Random) -> list[str]:
    lines, mark = [], 0
    for _ in range(chance.randint(1, 4)):
        parts = ["insert "] if chance.random() < 0.2 else []
        if parts and chance.random() < 0.5:  # a line that may be taken at once
            lines.append("".join(parts + chance.choices(_PARTS, k=chance.randint(1, 6))))
            continue
        for _ in range(chance.randint(1, 4)):
            parts += chance.choices(_PARTS, k=chance.randint(1, 4))
            parts.append(_MARK.format(mark))
            mark += 1
        lines.append("".join(parts))
    return lines


def ours(lines: list[str]) -> list[str] | None:
    """Return the marks that our lexer takes for commands, None where it refuses the text."""
    lexer, found = Lexer(), []
    try:
        for line in lines:
            pieces = lexer.pieces(line.encode())
            found += [piece for piece in pieces if isinstance(piece, Command)]
    except CommandNotAllowed:
        return None
    return [each.arguments[0].decode() for each in found if each.name == "warn"]


def theirs(psql: Path, cluster: Cluster, folder: Path, given: list[list[str]]) -> list[list[str]]:
    """Return the marks that psql takes for commands, of each text."""
    argv = [str(psql), "-Xq", "-h", cluster.host, "-p", str(cluster.port), "-U", cluster.superuser]
    for number, lines in enumerate(given):
        text = "\n".join(["\\warn text", "\\if false", *lines])
        (folder / f"{number}.sql").write_bytes(text.encode())
        argv += ["-f", str(folder / f"{number}.sql")]
    done = subprocess.run([*argv, "-d", "postgres"], capture_output=True, check=True)
    found: list[list[str]] = []
    for line in done.stderr.decode(errors="replace").splitlines():
        if line == "text":
            found.append([])
        elif line.isdecimal():
            found[-1].append(line)
    return found


def compare(
    psql: Path, cluster: Cluster, folder: Path, *, seed: int, count: int
) -> tuple[int, list[list[str]]]:
    """Return how many texts both have read, and those that they read in different ways."""
    given = [(lines, seen) for lines in texts(seed, count) if (seen := ours(lines)) is not None]
    psqls = theirs(psql, cluster, folder, [lines for lines, _ in given])
    assert len(psqls) == len(given)
    return len(given), [
        lines for (lines, seen), told in zip(given, psqls, strict=True) if seen != told
    ]
