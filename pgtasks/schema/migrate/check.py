"""Check migrations before they are released: heads, models against the database, lint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks.errors import NotProven
from pgtasks.report import typed
from pgtasks.schema.migrate import models, offline, state
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.lint import Linted, lint
from pgtasks.schema.migrate.models import Compared
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server import connection
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Checked:
    """The findings, by part. With `at_head` a database that is elsewhere is one, too."""

    compared: Compared
    linted: Linted
    at_head: bool = False

    def faults(self) -> list[str]:
        """Return one line for each part with findings."""
        heads, differences = self.compared.state.heads, self.compared.differences
        faults = []
        if len(heads) > 1:
            faults.append(f"{len(heads)} heads, {', '.join(heads)}: {state.several_heads()}")
        if self.compared.state.unknown or (self.at_head and self._is_elsewhere):
            faults.append(self.compared.state.sentence())
        if differences:
            way = typed.task("migrate.new", "-m TEXT")
            faults.append(f"models and database differ: {way} writes a revision")
        if self.linted.number:
            faults.append(f"lint: {self.linted.sentence()}")
        return faults

    @property
    def _is_elsewhere(self) -> bool:
        return self.compared.state.word != "up-to-date"

    def lines(self) -> list[str]:
        """Return what a person reads."""
        passes = self._is_elsewhere and not self.compared.state.unknown and not self.at_head
        return [
            f"database  {self.compared.state.sentence()}",
            *(["          no fault before a release, --at-head makes it one"] if passes else ()),
            f"models    {self._models()}",
            *(f"  {each}" for each in self.compared.differences or ()),
            f"lint      {self._lint()}",
            *(f"  {each}" for each in self.linted.lines()),
        ]

    def _models(self) -> str:
        if self.compared.differences is None:
            return f"not compared: {self.compared.why}"
        return "differ from the database" if self.compared.differences else "as the database"

    def _lint(self) -> str:
        if not self.linted.revisions:
            way = typed.task("migrate.check", "--since REVISION")
            return f"the database lacks no revision, nothing was linted: {way} lints later ones"
        return self.linted.sentence()

    def check(self) -> None:
        """Raise NotProven with all findings, if there are any."""
        if faults := self.faults():
            raise NotProven("; ".join(faults), details=self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        differences = self.compared.differences
        return {
            "state": self.compared.state.word,
            "heads": list(self.compared.state.heads),
            "models": None if differences is None else list(differences),
            "models_not_compared": self.compared.why,
            "lint": self.linted.as_json(),
            "faults": self.faults(),
        }


def check(
    scripts: Scripts,
    target: Target,
    identity: Identity,
    *,
    since: str | None,
    at_head: bool = False,
) -> Checked:
    """Check the files and the database, without changing it.

    Revisions that the database lacks are linted, or those after `since`. env.py runs, and the
    functions of the linted revisions in Alembic's --sql mode.
    """
    compared = models.compare(EnvPy(scripts, target, identity, read_only=True))
    steps = offline.unreleased(EnvPy(scripts, target, identity, read_only=True), since)
    with connection.session(target, read_only=True, purpose="migrate") as conn:
        major = conn.server_version // 10000
    return Checked(compared, lint(scripts, steps, major=major), at_head)
