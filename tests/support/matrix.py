"""Tests of many fields: each combination in `make torture`, in `make test` a slice of them."""

from __future__ import annotations

import importlib
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

whole = False  # torture/conftest.py sets it before it imports a test
number = 1  # of the rounds of torture, set likewise


def matrix(**fields: list[Any]) -> pytest.MarkDecorator:
    """Parametrize a test: each value of each field is met, all combinations in torture alone.

    A run at one step under one fault takes seconds, and its code is the same at each of them: the
    diagonal meets every step and every fault, what depends on both is for the trials at leisure.
    """
    return pytest.mark.parametrize(list(fields), cells(whole=whole, **fields), ids=_names)


def cells(*, whole: bool, **fields: list[Any]) -> list[tuple[Any, ...]]:
    """Return all combinations of the fields' values, or the diagonal that has each value."""
    if whole:
        return list(product(*fields.values()))
    longest = max(map(len, fields.values()))
    columns = [[values[i % len(values)] for i in range(longest)] for values in fields.values()]
    return list(zip(*columns, strict=True))


def rounds(few: int, many: int = 10) -> int:
    """Return how many random trials a test has: a few, in torture many for each of its rounds."""
    return many * number if whole else few


def some(values: list[Any], few: int) -> list[Any]:
    """Return all values in torture, else a few of them at equal distances."""
    return values if whole else values[:: max(1, len(values) // few)]


def _names(value: Any) -> str | None:
    return getattr(value, "__name__", None)


def trials(path: Path) -> dict[str, Any]:
    """Return the interrupted runs of a file of tests, with its fixtures, for torture to have."""
    pytest.register_assert_rewrite(path.stem)
    sys.path.insert(0, str(path.parent))
    members = vars(importlib.import_module(path.stem))
    others = ("_", "test_", "Test")
    return {
        name: member
        for name, member in members.items()
        if name.startswith("test_an_interrupted_") or not name.startswith(others)
    }
