"""Let Invoke parse a command line without the arguments of every task, and copies of them.

It makes the contexts of all tasks for each run, a tenth of the time of a short one, and looks up
those that are typed. Its parser copies and prints all of them twice, a fifth of the time, and
changes only a copy of its own of the one that it parses. Its collections go through each name of
a task letter by letter, seven times, to put dashes for underscores that most names do not have.
This depends on invoke.Collection.to_contexts and .transform and invoke.parser.Parser.contexts,
which are public.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from invoke import Collection
from invoke.parser import Parser, ParserContext
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


def keep_names() -> None:
    """Make collections return a name in which there is nothing to replace as it is."""
    if not hasattr(Collection.transform, "__wrapped__"):
        Collection.transform = _keeping(Collection.transform)


def _keeping(method: Any) -> Any:
    @functools.wraps(method)
    def wrapped(tree: Any, name: Any) -> Any:
        replaced = "_" if tree.auto_dash_names else "-"
        return method(tree, name) if name and replaced in name else name

    return wrapped


def of_typed() -> None:
    """Make collections return the contexts of the tasks that are typed, of all if none is."""
    if not hasattr(Collection.to_contexts, "__wrapped__"):
        Collection.to_contexts = _typed(Collection.to_contexts)


def _typed(method: Any) -> Any:
    @functools.wraps(method)
    def wrapped(tree: Any, ignore_unknown_help: bool | None = None) -> list[ParserContext]:
        words = {*sys.argv[1:]}
        typed = {
            name: aliases
            for name, aliases in tree.task_names.items()
            if not words.isdisjoint([name, *aliases])
        }
        if not typed:
            return list(method(tree, ignore_unknown_help))
        return [
            ParserContext(name, aliases, tree[name].get_arguments(ignore_unknown_help))
            for name, aliases in typed.items()
        ]

    return wrapped
