"""Runs that are killed, at steps and at random moments: `make torture` has thousands of them."""

from __future__ import annotations

from collections.abc import Callable

import lives
import matrix
import operations
import pytest
from lives import Life
from lives_here import life, life_owner, versions  # noqa: F401  fixtures

_STEPS = [(name, step) for name in operations.HERE for step in operations.OPERATIONS[name].steps]


@pytest.mark.parametrize(("name", "step"), matrix.some(_STEPS, 5))
def test_an_interrupted_run_at_a_step(
    life: Life,  # noqa: F811
    name: str,
    step: str,
    count: Callable[..., None],
) -> None:
    with lives.counted(life, count):
        lives.several(life, [name], step, number=matrix.number)


@pytest.mark.parametrize("number", range(matrix.rounds(1)))
def test_an_interrupted_run_at_any_moment(
    life: Life,  # noqa: F811
    number: int,
    count: Callable[..., None],
) -> None:
    names = list(operations.HERE)
    life.chance.shuffle(names)
    with lives.counted(life, count):
        lives.several(life, names if matrix.whole else names[:3], number=4 if matrix.whole else 1)
