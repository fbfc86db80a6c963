"""The plan of a copy: what is read, what is built, and what it replaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pgtasks import report
from pgtasks.copy.hosts import THROUGH_HERE, RowsWay
from pgtasks.copy.mask.masking import Masking
from pgtasks.copy.options import CopyOptions
from pgtasks.copy.part.carry import Carried
from pgtasks.copy.part.selection import WHOLE, Part
from pgtasks.copy.schema import Load, has_password
from pgtasks.database import leaving
from pgtasks.database.leaving import LeftOut
from pgtasks.database.properties import DatabaseProperties
from pgtasks.database.replaced import Replaced
from pgtasks.database.rights import Rights
from pgtasks.database.side import side_name
from pgtasks.host.tools import Toolset
from pgtasks.server.dump.source import Source
from pgtasks.server.identity import Identity
from pgtasks.server.proof.scope import Content
from pgtasks.server.proof.toc import Entry
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

Way = Literal["rows", "template", "delta"]


@dataclass(frozen=True)
class CopyPlan:
    """Everything that a copy needs, collected before it changes anything.

    `allowed` is the identity of the source that the guard has seen, `archive` its schema; `facts`
    are the properties of the side database, `major` is that of the target's server, `replaced` is
    None if the target does not exist. `login` is the target with the login of the load, if there is
    one. Policies and user mappings for `absent` roles are left out.

    With `carried`, the copy is made of two databases: the schema is that of `source`, which is the
    target `itself` if the copy keeps its schema, and `second` is the plan for the other one.
    """

    source: Target
    allowed: Identity
    target: Target
    options: CopyOptions
    tools: Toolset
    origin: Source
    facts: DatabaseProperties
    replaced: Replaced | None
    system: str
    major: int
    run: str
    rights: Rights
    archive: Sequence[Entry] = field(repr=False)
    absent: frozenset[str] = frozenset()
    no_tablespaces: bool = False
    rows_way: RowsWay = THROUGH_HERE
    login: Target | None = None
    way: Way = "rows"
    notes: tuple[str, ...] = ()
    masking: Masking = field(default_factory=Masking, repr=False)
    part: Part = WHOLE
    itself: bool = False
    carried: Carried | None = field(default=None, repr=False)
    second: CopyPlan | None = field(default=None, repr=False)
    is_second: bool = False

    @property
    def named(self) -> Target:
        """Return the source that the command line names."""
        return self.second.source if self.itself and self.second else self.source

    def taken(self, content: Content) -> Content:
        """Return what the copy takes of the content of this database, if it takes two."""
        if self.carried is None:
            return content
        return self.carried.of_second(content) if self.is_second else self.carried.of_first(content)

    @property
    def side(self) -> str:
        """Return the name of the side database."""
        return side_name(self.target.database, "new", self.run)

    @property
    def backs_up(self) -> bool:
        """Return whether the target is backed up first."""
        return self.options.backup_first and self.replaced is not None

    def left(self, archive: Sequence[Entry]) -> LeftOut:
        """Return what is left out of the source's schema."""
        numbers = leaving.naming(archive, self.absent) | self.part.entries(archive)
        if self.masking.without_user_mappings and not self.itself:
            numbers |= {entry.number for entry in archive if has_password(entry)}
        return leaving.left(archive, (), numbers)

    @property
    def masked(self) -> Target:
        """Return the source for the sessions that read rows, and mask them."""
        if not self.masking.masked:
            return self.source
        return replace(self.source, secrets=self.options.masks.secrets)

    @property
    def loading(self) -> Target:
        """Return the side database for the sessions of the load."""
        return replace((self.login or self.target).at(self.side), role=self.rights.role)

    @property
    def proving(self) -> Target:
        """Return the side database for the sessions of the proof."""
        return self.login.at(self.side) if self.login else self.loading

    @property
    def load(self) -> Load:
        """Return the programs that load the side database."""
        return Load(
            toolset=self.tools,
            target=self.loading,
            encoding=self.facts.encoding,
            jobs=self.options.jobs,
            owner=self.facts.owner if self.rights.mapped else "",
            no_tablespaces=self.no_tablespaces,
        )

    @property
    def stamp(self) -> Stamp:
        """Return the stamp of the side database."""
        return Stamp(
            self.target.environment,
            self.target.database,
            self.system,
            origin=f"{self.named.environment}/{self.named.database}",
            lacks="\n".join(self.left(self.archive).names),
            role="new",
            run=self.run,
            # of a copy of two databases, rows of one are as they were
            masks="" if self.carried else self.masking.version,
        )

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        origin = self.second.origin if self.itself and self.second else self.origin
        return [
            f"source   {self.named}, {report.plural(origin.tables, 'table')},"
            f" {report.size(origin.bytes)}",
            *self.part.lines(),
            *(f"mask     {line}" for line in self.masking.lines()),
            f"way      {self._way()}",
            f"build    {self.side!r}, owner {self.facts.owner!r}",
            *self._arrival(),
            *self._replaced(),
            *(f"note     {note}" for note in self.notes),
        ]

    def _way(self) -> str:
        if self.way == "template":
            return "the server copies the files of the source: nobody can connect to it meanwhile"
        if self.way == "delta":
            return "the server copies the files of the target: only tables that differ are replaced"
        return (
            f"rows in one snapshot, {report.plural(self.options.jobs, 'table')} at once,"
            f" pg_dump and pg_restore {self.tools}{self._limit()}"
        )

    def _limit(self) -> str:
        rate = self.options.rate
        return f", at most {report.size(rate)}/s" if rate else ""

    def _arrival(self) -> Iterator[str]:
        if self.options.arrival:
            yield f"run      {', '.join(self.options.arrival.names)}, after the proof"

    def _replaced(self) -> Iterator[str]:
        if self.replaced is None:
            without = ", nor backed up" if self.options.backup_first else ""
            yield f"create   {self.target}, which does not exist: nothing is replaced{without}"
            return
        kept = side_name(self.target.database, "old", self.run)
        yield f"replace  {self.target}, kept as {kept!r}"
        yield from self.replaced.lines()
        if self.backs_up:
            yield f"backup   {self.target}, before anything is built"

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "source": {"environment": self.named.environment, "database": self.named.database},
            "way": self.way,
            "tools": str(self.tools),
            "jobs": self.options.jobs,
            "side": self.side,
            "source_bytes": self.origin.bytes,
            "masks": self.masking.as_json(),
            "arrive": list(self.options.arrival.names) if self.options.arrival else [],
            "replaces": self.replaced is not None,
            "backup_first": self.backs_up,
            "rate": self.options.rate,
            **(self.replaced.as_json() if self.replaced else {}),
            "part": self.part.as_json(),
            "notes": list(self.notes),
        }
