"""Variables of the process, of env/NAME.env, and of the project's .env."""

from __future__ import annotations

import io
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.errors import BadConfiguration
from pgtasks.settings.yamlfile import text_of

if TYPE_CHECKING:
    from dotenv.parser import Original


_LONGEST = 64 << 10  # characters of a value, with its references replaced


@dataclass(frozen=True)
class Variable:
    """The value of a variable, and its origin: `DEV_DATABASE_URL (.env:3)`."""

    value: str
    where: str
    file: str = ""


@dataclass(frozen=True)
class Source:
    """The variables of a dotenv file, or of the process if `file` is empty."""

    file: str
    values: Mapping[str, Variable]

    def find(self, name: str) -> Variable | None:
        """Return the variable `name`, or None if it is unset or empty."""
        variable = self.values.get(name)
        return variable if variable and variable.value else None


@dataclass(frozen=True)
class Variables:
    """All variables; a dotenv file never overrides the process."""

    process: Mapping[str, str]
    dotenv: Mapping[str, Mapping[str, Variable]]  # by file, the more specific file first

    def sources(self) -> Iterator[Source]:
        """Yield the sources of variables, low to high."""
        for file, values in reversed(list(self.dotenv.items())):
            yield Source(file, values)
        yield Source("", {name: Variable(value, name) for name, value in self.process.items()})

    def find(self, name: str) -> Variable | None:
        """Return the variable `name`, or None if it is unset or empty everywhere."""
        variables = [source.find(name) for source in self.sources()]
        return next((each for each in reversed(variables) if each), None)


def read_dotenv(path: Path, name: str, process: Mapping[str, str]) -> dict[str, Variable]:
    """Read a dotenv file, which may not exist, raising BadConfiguration with the line.

    As in python-dotenv, `${OTHER}` is replaced by the variable of the process, else by that of a
    line above.
    """
    if not path.is_file():  # some people call their virtual environment .env
        return {}
    text = text_of(path, name)
    from dotenv.parser import parse_stream

    variables: dict[str, Variable] = {}
    values: dict[str, str] = {}
    known = ChainMap(dict(process), values)
    for binding in parse_stream(io.StringIO(text)):
        place = f"{name}:{_line(binding.original)}"
        if binding.error:
            raise BadConfiguration(f"{place}: expected NAME=value")
        if binding.key is not None and binding.value is not None:
            where = f"{binding.key} ({place})"
            value = values[binding.key] = _resolved(binding.value, known, place)
            variables[binding.key] = Variable(value, where, name)
    return variables


def _line(original: Original) -> int:
    # python-dotenv counts the empty lines above a binding as its own
    lead = original.string[: len(original.string) - len(original.string.lstrip())]
    return original.line + lead.count("\n")


def _resolved(value: str, known: Mapping[str, str], place: str) -> str:
    if "${" not in value:
        return value
    from dotenv.variables import parse_variables

    resolved = ""
    for atom in parse_variables(value):
        resolved += atom.resolve(known)
        if len(resolved) > _LONGEST:
            raise BadConfiguration(f"{place}: a value of more than {_LONGEST:,} characters")
    return resolved
