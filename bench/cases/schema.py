"""The daily work on a schema where nothing is to be done, and a database for each test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from statistics import median
from xml.etree import ElementTree  # nosec B405  of pytest itself

from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, alone, compared, extra
from bench.workspace import ROOT, Workspace
from pgtasks.service.testing import server
from pgtasks.settings import project

NAME = "schema"
UP, UPGRADE = "`inv migrate.up`", "`alembic upgrade head`"
APPLY, PSQL = "`inv trigger.apply`", "`psql -f` of the files"
TESTS = "`pytest`, a database for each test"
_TESTS = 50
_FILE = f"""
import pytest

@pytest.mark.parametrize("number", range({_TESTS}))
def test_one(pgtasks_database, number):
    with pgtasks_database.connect():
        pass
"""


def run(bench: Bench) -> list[Row]:
    """Return rows of migrations and triggers that are applied, and of tests."""
    space, scale = bench.space, bench.scale
    space.load(scale)
    samples = bench.contest(NAME, [*_migrating(space, scale), *_triggers(space, scale)])
    try:
        tests = bench.contest(f"{NAME} tests", [_testing(space)])
    finally:
        server.remove(project.load(space.project))
    return [
        compared(
            NAME, "migrations that are applied", (UP, samples[UP]), (UPGRADE, samples[UPGRADE])
        ),
        compared(
            NAME, "triggers that are installed", (APPLY, samples[APPLY]), (PSQL, samples[PSQL])
        ),
        alone(NAME, "a database for a test", (TESTS, tests[TESTS]), pick=extra("test"), unit="ms"),
    ]


def _migrating(space: Workspace, scale: str) -> tuple[Contender, ...]:
    variables = {"DATABASE_URL": space.server.url(scale)}
    return (
        Contender(UP, lambda: space.inv("migrate.up", "--env", scale)),
        Contender(UPGRADE, lambda: space.python("alembic", "upgrade", "head", **variables)),
    )


def _triggers(space: Workspace, scale: str) -> tuple[Contender, ...]:
    files = [*ROOT.glob("sql/functions/*.sql"), *ROOT.glob("sql/triggers/*.sql")]
    words = [f"--file={path}" for path in sorted(files)]
    return (
        Contender(APPLY, lambda: space.inv("trigger.apply", "--env", scale)),
        Contender(PSQL, lambda: space.stock(["psql", "-X", "-q", "-d", scale, *words])),
    )


def _testing(space: Workspace) -> Contender:
    folder = space.project / "tested"

    def tested() -> Sample:
        report = folder / "report.xml"
        flags = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--junitxml={report}")
        sample = space.python("pytest", *flags, str(folder))
        cases = ElementTree.parse(report).iter("testcase")  # nosec B314
        times = sorted(float(case.get("time", 0)) for case in cases)
        return replace(sample, extra={"test": median(times[:-1])})  # the first builds the template

    def made() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "test_it.py").write_text(_FILE)
        (space.project / "pytest.ini").write_text("[pytest]\n")

    return Contender(TESTS, tested, made)
