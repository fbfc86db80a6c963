"""The part of a database that a copy takes, as the flags of the command line say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.copy.part import conditions, names
from pgtasks.errors import Refused
from pgtasks.server.quoting import parted

NO_ROWS = "WHERE false"  # the condition of a table whose rows are left out


@dataclass(frozen=True)
class Scope:
    """The part of a database that a copy takes.

    `exclude` are patterns of tables that are left out, `exclude_data` of those without rows;
    `where` are patterns of tables with the conditions on their rows, and `sample` is a percentage
    of the others' rows; `follow` are patterns of tables whose rows come with those that they refer
    to, each with a pattern of these, or nothing. `schema_only` keeps the rows of the target,
    `data_only` its schema, and `tables` all but the rows of some tables; `lossy` leaves rows and
    columns behind that have no place then.
    """

    exclude: tuple[str, ...] = ()
    exclude_data: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    sample: float | None = None
    follow: tuple[tuple[str, str], ...] = ()
    schema_only: bool = False
    data_only: bool = False
    tables: tuple[str, ...] = ()
    lossy: bool = False

    @property
    def of_two(self) -> bool:
        """Whether the copy keeps a part of the database that it replaces."""
        return self.schema_only or self.data_only or bool(self.tables)

    @property
    def complete(self) -> bool:
        """Whether a copy takes everything."""
        return self == Scope()

    @property
    def subset(self) -> bool:
        """Whether a copy takes only some of the rows of some tables."""
        return bool(self.where) or self.sample is not None


EVERYTHING = Scope()


def scope_of(
    *,
    exclude: Sequence[str] = (),
    exclude_data: Sequence[str] = (),
    where: Sequence[str] = (),
    sample: str | None = None,
    follow: Sequence[str] = (),
    schema_only: bool = False,
    data_only: bool = False,
    tables: Sequence[str] = (),
    lossy: bool = False,
) -> Scope:
    """Return the scope that flags ask for, raising Refused."""
    rows = data_only or tables or where or follow or exclude_data or sample is not None
    if schema_only and rows:
        raise Refused("--schema-only copies no rows: leave out the flags that choose some")
    if lossy and not (schema_only or data_only or tables):
        raise Refused("--lossy is for --schema-only, --data-only and --tables")
    if exclude and (schema_only or data_only or tables):
        raise Refused("--exclude is for copies that keep nothing of the target, see --exclude-data")
    return Scope(
        exclude=names.listed(exclude),
        schema_only=schema_only,
        data_only=data_only,
        tables=names.listed(tables),
        lossy=lossy,
        exclude_data=names.listed(exclude_data),
        where=tuple(map(conditions.parted, where)),
        sample=None if sample is None else _percent(sample),
        follow=tuple(map(_pair, names.listed(follow))),
    )


def _percent(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise Refused(f"--sample {text!r}: expected a percentage between 0 and 100")
    return percent


def _pair(text: str) -> tuple[str, str]:
    """Return the patterns of `TABLE` or `TABLE:PARENT`."""
    table, *parents = parted(text, ":")
    if not table or len(parents) > 1 or parents == [""]:
        raise Refused(f"--follow {text!r}: expected TABLE or TABLE:PARENT")
    return table, "".join(parents)
