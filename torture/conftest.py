"""Trials that are too long for `tests/`, with its fixtures: `make torture`.

--seed N        what is made up, and the order; a run without it takes a new one and says which
--rounds N      so many times the random trials (default: 1; `make torture ROUNDS=N`)
--minutes N     begin no trial after so many minutes: a slice that changes from run to run
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "support")]
_SPEC = importlib.util.spec_from_file_location("tests_conftest", _TESTS / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
globals().update({name: it for name, it in vars(_CONFTEST).items() if not name.startswith("__")})

import matrix  # noqa: E402  found by the path above

matrix.whole = True
_BEGUN = time.monotonic()
_COUNTED: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a run of trials is told."""
    group = parser.getgroup("torture")
    group.addoption("--seed", type=int, help="of what is made up and of the order (default: new)")
    group.addoption("--rounds", type=int, default=1, help="of random trials (default: 1)")
    group.addoption("--minutes", type=float, help="begin no trial after so many minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed; a worker is told it."""
    told = getattr(config, "workerinput", {}).get("torture_seed", config.option.seed)
    config.option.seed = random.SystemRandom().randrange(10**6) if told is None else told
    matrix.number = config.option.rounds  # before a test is imported
    _CONFTEST.pytest_configure(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the seed."""
    node.workerinput["torture_seed"] = node.config.option.seed


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say how to have the same trials again."""
    again = f"make torture ROUNDS={config.option.rounds} ARGS='--seed {config.option.seed}'"
    return [*_CONFTEST.pytest_report_header(), f"seed {config.option.seed}, once more: {again}"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Sum up what the trials have counted."""
    if report.when == "call":
        _COUNTED.update({name: it for name, it in report.user_properties if type(it) is int})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it, and what was done, where the end of a long run is read."""
    option = terminalreporter.config.option
    minutes = (time.monotonic() - _BEGUN) / 60
    done = "".join(f", {number:,} {name}" for name, number in sorted(_COUNTED.items()))
    terminalreporter.write_line(
        f"torture, seed {option.seed}, rounds {option.rounds}{done}, in {minutes:.0f} min"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the trials into the order of the seed, the same in each process."""

    def key(item: pytest.Item) -> bytes:
        return hashlib.sha256(f"{config.option.seed} {item.nodeid}".encode()).digest()

    items.sort(key=key)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no trial when the time is over."""
    minutes = item.config.option.minutes
    if minutes is not None and time.monotonic() - _BEGUN > minutes * 60:
        pytest.skip(f"the {minutes:g} minutes of this slice were over")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this run's trials."""
    return int(request.config.option.seed)
