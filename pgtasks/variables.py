"""Variables: those of the process, then of env/NAME.env, then of the project's .env."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import BadConfiguration


@dataclass(frozen=True)
class Found:
    """A variable's value and where it stands: `DEV_DATABASE_URL` or `DEV_DATABASE_URL (.env:3)`."""

    value: str
    where: str
    file: str = ""


@dataclass(frozen=True)
class Variables:
    """Look variables up in the process first; a dotenv file never overrides the process."""

    process: Mapping[str, str]
    dotenv: Mapping[str, Mapping[str, Found]]  # by file, the more specific file first

    def find(self, name: str, *, files_only: bool = False) -> Found | None:
        """Return the variable `name`, or None where it is unset or empty."""
        if not files_only and self.process.get(name):
            return Found(self.process[name], name)
        for values in self.dotenv.values():
            if name in values and values[name].value:
                return values[name]
        return None

    def names(self) -> list[str]:
        """Return the names of all variables, of the process and of the files."""
        return [*self.process, *(name for values in self.dotenv.values() for name in values)]


def read_dotenv(path: Path, name: str) -> dict[str, Found]:
    """Read one dotenv file (none: no variables), raising BadConfiguration with the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfiguration(f"{name}: {getattr(exc, 'strerror', None) or exc}") from None
    from dotenv.parser import parse_stream

    found: dict[str, Found] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise BadConfiguration(f"{name}:{binding.original.line}: expected NAME=value")
        if binding.key is not None and binding.value is not None:
            where = f"{binding.key} ({name}:{binding.original.line})"
            found[binding.key] = Found(binding.value, where, name)
    return found
