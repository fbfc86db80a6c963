"""Let Invoke parse a command line without copies of every task's arguments.

Its parser copies and prints the contexts of all tasks twice for each run, a fifth of the time of a
short one, and changes only a copy of its own of the one that it parses. This depends on
invoke.parser.Parser.contexts, which is public.
"""

from __future__ import annotations

import functools
from typing import Any

from invoke.parser import Parser
from invoke.util import Lexicon


class _Contexts(Lexicon):  # type: ignore[misc]
    """The contexts of all tasks, by name."""

    def __deepcopy__(self, memo: object) -> _Contexts:
        return self

    def __repr__(self) -> str:
        return f"<contexts of {len(self)} tasks>"


def share() -> None:
    """Make parsers share their contexts, instead of copying them."""
    if not hasattr(Parser.__init__, "__wrapped__"):
        Parser.__init__ = _sharing(Parser.__init__)


def _sharing(method: Any) -> Any:
    @functools.wraps(method)
    def wrapped(parser: Any, *args: Any, **options: Any) -> None:
        method(parser, *args, **options)
        # a Lexicon takes an assignment for one of its items
        object.__setattr__(parser.contexts, "__class__", _Contexts)

    return wrapped
