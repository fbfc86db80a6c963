"""Runs that are killed, at steps and at random moments: `make torture` has thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lives
import matrix
import pytest
from lives import Life
from lives_here import life, versions  # noqa: F401  fixtures

Inv = Callable[..., Any]
_STEPS = [(name, step) for name in lives.HERE for step in lives.OPERATIONS[name].steps]
_ROUNDS = matrix.rounds(1)


@pytest.mark.parametrize(("name", "step"), matrix.some(_STEPS, 5))
def test_an_interrupted_run_at_a_step(
    life: Life,  # noqa: F811
    name: str,
    step: str,
    count: Callable[..., None],
) -> None:
    life.trial(name, step)
    count(kills=life.kills)


@pytest.mark.parametrize("number", range(_ROUNDS))
def test_an_interrupted_run_at_any_moment(
    life: Life,  # noqa: F811
    number: int,
    count: Callable[..., None],
) -> None:
    names = list(lives.HERE)
    life.chance.shuffle(names)
    for name in names if matrix.whole else names[:3]:
        life.trial(name)
        life.tidy()
    count(kills=life.kills, finished=life.finished)
