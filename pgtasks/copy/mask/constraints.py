"""Check that masks keep what the schema demands: distinct values, and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pgtasks.copy.mask import columns, expression, ready
from pgtasks.copy.mask.compilation import ready_mask
from pgtasks.copy.mask.masking import Decided
from pgtasks.copy.mask.rules import PLAIN
from pgtasks.errors import BadConfiguration
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted


def refuse_broken(conn: Connection, decided: Sequence[Decided]) -> None:
    """Raise BadConfiguration if the masks cannot keep a unique index or a foreign key."""
    by_name = {(each.column.relation, each.column.name): each for each in decided}
    masked = sorted({each.column.relation for each in decided if each.masked})
    if not masked:
        return
    lines = [
        *_not_unique(columns.unique(conn, masked), by_name),
        *_not_referring(columns.foreign_keys(conn, [each[0] for each in by_name]), by_name),
    ]
    if lines:
        raise BadConfiguration(lines[0], hint="\n".join(lines[1:]))


ByName = Mapping[tuple[int, str], Decided]


def _not_unique(indexes: Iterable[columns.Unique], decided: ByName) -> Iterator[str]:
    for index in indexes:
        for name in index.columns:
            each = decided.get((index.relation, name))
            mask = ready_mask(each.rule) if each and each.masked and each.rule else None
            if each and each.rule and mask and not mask.wide(each.column):
                text = each.column.base in ("text", "varchar", "bpchar", "citext")
                way_out = "hash, uuid or email" if text else "plain, or an expression of your own"
                yield (
                    f"{each.rule}: {each.rule.text} does not keep the values of {each.column} "
                    f"distinct, as index {index.name!r} demands: take {way_out}"
                )


def _not_referring(keys: Iterable[columns.ForeignKey], decided: ByName) -> Iterator[str]:
    for each in keys:
        for name, target in zip(each.columns, each.targets, strict=True):
            ours = decided.get((each.relation, name))
            theirs = decided.get((each.referenced, target))
            if ours and theirs and _mask(ours) != _mask(theirs):
                yield (
                    f"{ours.column} refers to {theirs.column} (foreign key {each.name!r}), and "
                    f"their masks differ: {_mask(ours)!r} and {_mask(theirs)!r}"
                )


def _mask(each: Decided) -> str:
    """Return the mask of a column, in which the column itself has no name."""
    if each.rule is None or not each.masked:
        return PLAIN
    name = quoted(each.column.name)
    words = each.rule.text.split(name) if not ready.find(each.rule.text) else [each.rule.text]
    return expression.COLUMN.join(words)
