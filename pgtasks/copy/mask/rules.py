"""The rules of masks: which columns each is for, and what it does with their values.

A rule names a column (`public.patients.email`), columns by a pattern (`*.*.email`) or a type (`type
inet`). Names are written as in SQL: letters are folded unless quoted; `*` and `?` are wildcards.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.errors import BadConfiguration
from pgtasks.server import catalog

PLAIN = "plain"
_TYPE = "type "
_PARTLY = "partly "
LARGE_OBJECTS, USER_MAPPINGS = "large objects", "user mappings"
BESIDE = (LARGE_OBJECTS, USER_MAPPINGS)  # what is no column: plain, or null to leave it out


@dataclass(frozen=True)
class Rule:
    """A rule: `where` says which columns, `text` is the mask; `layer` is where it is written.

    With `partly`, the mask may leave values as they are.
    """

    where: str
    text: str
    layer: str
    partly: bool = False

    @property
    def plain(self) -> bool:
        """Whether the values leave the source as they are."""
        return self.text == PLAIN

    @property
    def type(self) -> str:
        """Return the type that the rule is for, or an empty text."""
        return self.where[len(_TYPE) :].strip() if self.where.startswith(_TYPE) else ""

    @property
    def weight(self) -> int:
        """Return a number that is larger for a rule that says more exactly what it is for."""
        return len(re.sub(r"[*?]", "", self.where))

    @property
    def exact(self) -> bool:
        """Whether the rule names one column."""
        return not self.type and not re.search(r"[*?]", re.sub(r'"[^"]*"', "", self.where))

    def matches(self, name: Sequence[str]) -> bool:
        """Return whether the rule is for the column with this schema, table and name."""
        return self._pattern.fullmatch("\0".join(name)) is not None

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("\0".join(_patterns(self)))

    def __str__(self) -> str:
        return f"{self.layer}: mask {self.where!r}"


def rule(where: str, text: object, layer: str) -> Rule:
    """Return a rule from a line of a file, raising BadConfiguration."""
    if text is None:
        text = "null"
    if not isinstance(text, str) or not text.strip():
        raise BadConfiguration(
            f"{layer}: mask {where!r}: {text!r}, expected an expression, a ready-made mask or plain"
        )
    text = text.strip()
    partly = text.startswith(_PARTLY)
    made = Rule(where, text[len(_PARTLY) :].strip() if partly else text, layer, partly)
    if where in BESIDE:
        if text not in (PLAIN, "null"):
            raise BadConfiguration(f"{made}: {text!r}, expected plain, or null to leave them out")
    elif not made.type:
        _patterns(made)
    return made


def _patterns(rule: Rule) -> tuple[str, str, str]:
    """Return the regular expressions for schema, table and column, in which . is no zero byte."""
    parts = _parted(rule.where)
    if len(parts) != 3 or not all(parts):
        raise BadConfiguration(
            f"{rule}: expected schema.table.column, a pattern of it, or 'type NAME'"
        )
    if special := re.search(r"[|+()\[\]{}^\\]", re.sub(r'"[^"]*"', "", rule.where)):
        raise BadConfiguration(f"{rule}: {special[0]!r} belongs in double quotes")
    regexes = (catalog.pattern_regexes(part)[1][1:-1] for part in parts)  # without ^ and $
    schema, table, column = (re.sub(r"(?<!\\)\.", "[^\0]", regex) for regex in regexes)
    return schema, table, column


def _parted(name: str) -> list[str]:
    """Return the parts of a name, with their quotes."""
    return re.findall(r'((?:"(?:[^"]|"")*"|[^".])+)(?:\.|$)', name)
