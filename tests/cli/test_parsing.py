"""The parser shares the arguments of tasks; what one task is given does not reach the next."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Collection
from invoke.parser import Parser, ParserContext

from pgtasks.cli import parsing

Inv = Callable[..., Any]


def test_no_flag_reaches_the_same_task_again(inv: Inv, project: Path) -> None:
    done = inv("env.list", "--json", "env.list")
    assert done.returncode == 0, done.stderr
    decoder = json.JSONDecoder()
    _, end = decoder.raw_decode(done.stdout)
    assert done.stdout[end:].strip().startswith("environment"), done.stdout


def test_a_parse_copies_no_contexts() -> None:
    parsing.share()
    parser = Parser(contexts=[ParserContext(name="a"), ParserContext(name="b")])
    parsed = parser.parse_argv(["b", "a", "b"])
    assert [context.name for context in parsed] == ["b", "a", "b"]
    assert copy.deepcopy(parser.contexts) is parser.contexts


def test_names_are_those_of_invoke() -> None:
    parsing.keep_names()
    invokes = Collection.transform.__wrapped__
    for dashes in (True, False):
        tree = Collection("any", auto_dash_names=dashes)
        for name in (
            "",
            None,
            "restore",
            "drop_tables",
            "drop-tables",
            "_own_",
            "a._b_c",
            "-a-b.c",
        ):
            assert tree.transform(name) == invokes(tree, name)
