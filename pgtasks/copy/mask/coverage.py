"""Decide each column of a source: masked, plain, or not decided."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pgtasks.copy.mask import block, columns, compilation, constraints
from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.guess import guess
from pgtasks.copy.mask.masking import Decided, Masking
from pgtasks.copy.mask.rules import BESIDE, LARGE_OBJECTS, Rule
from pgtasks.copy.mask.settings import Masks
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.report import plural, typed
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.settings import fields


@dataclass
class _Rules:
    """The rules, and which of them were for a column."""

    masks: Masks
    used: set[str] = field(default_factory=set)

    def of(self, column: Column, names: Mapping[int, tuple[str, str]]) -> Rule | None:
        """Return the rule for a column: by its name, else by a pattern, else by its type.

        A partition has the rules of the tables above it, after its own.
        """
        own = self._for((column.schema, column.table, column.name))
        above = [
            rule for each in column.ancestors for rule in self._for((*names[each], column.name))
        ]
        by_type = [rule for rule in self.masks.rules if rule.type in column.types]
        self.used |= {rule.where for rule in (*own, *above, *by_type)}
        exact = [[rule for rule in named if rule.exact] for named in (own, above)]
        for chosen in (*exact, own, above, by_type):
            if chosen:
                return _heaviest(chosen, column)
        return None

    def _for(self, name: Sequence[str]) -> list[Rule]:
        """Return the rules for columns by name or pattern that are for this one."""
        rules = self.masks.rules
        return [
            rule
            for rule in rules
            if rule.where not in BESIDE and not rule.type and rule.matches(name)
        ]


def _heaviest(rules: Sequence[Rule], column: Column) -> Rule:
    """Return the rule that says most exactly what it is for."""
    first, *others = sorted(rules, key=lambda rule: -rule.weight)
    if others and others[0].weight == first.weight and others[0].text != first.text:
        raise BadConfiguration(
            f"{first} and {others[0].where!r} are both for {column}: name the column itself"
        )
    return first


def planned(
    conn: Connection,
    masks: Masks,
    *,
    encoding: str,
    without: Collection[int] = (),
    required: bool = True,
) -> Masking:
    """Decide all columns outside a transaction, as `decided` does.

    Unless `required`, columns may be undecided.
    """
    connection.execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if required:
        masking = decided(conn, masks, encoding=encoding, without=without)
    else:
        masking = decide(conn, masks, encoding=encoding)
    if masking.masked:
        masking.applied(catalog.relations(conn, "r"))
    connection.execute(conn, "COMMIT")
    return masking


def decided(
    conn: Connection, masks: Masks, *, encoding: str, without: Collection[int] = ()
) -> Masking:
    """Decide all columns in the transaction's snapshot; raises Refused if some are not decided.

    The rows of the tables `without` are not copied.
    """
    if not masks.rules and not masks.required:
        return Masking()
    masking = decide(conn, masks, encoding=encoding)
    refuse_undecided(masking, masks, without)
    if masks.required and LARGE_OBJECTS not in masking.beside:
        _refuse_large_objects(conn, masks)
    return masking


def decide(conn: Connection, masks: Masks, *, encoding: str) -> Masking:
    """Decide all columns, raising BadConfiguration for a rule that cannot be applied.

    `conn` is in a transaction of the source; `encoding` is the database's.
    """
    made = list(compilation.compiled(conn, chosen(conn, masks), encoding))
    compilation.refuse_without_key(masks, made)
    constraints.refuse_broken(conn, made)
    return Masking(tuple(made), _version(made), _beside(masks), bool(masks.required))


def of_schema(masks: Masks) -> Masking:
    """Return the decisions for a copy of the schema alone, which has no column to mask."""
    masked = any(not rule.plain for rule in masks.rules if rule.where not in BESIDE)
    return Masking(beside=_beside(masks), required=bool(masks.required) or masked)


def _beside(masks: Masks) -> dict[str, str]:
    return {rule.where: rule.text for rule in masks.rules if rule.where in BESIDE}


def chosen(conn: Connection, masks: Masks) -> list[Decided]:
    """Return all columns but the generated ones, each with its rule."""
    every = columns.read(conn)
    names = {each.relation: (each.schema, each.table) for each in every}
    rules = _Rules(masks)
    decided = [Decided(each, rules.of(each, names)) for each in every if not each.generated]
    _refuse_unused(masks, rules.used, every)
    return decided


def _refuse_unused(masks: Masks, used: set[str], every: Sequence[Column]) -> None:
    for rule in masks.rules:
        if rule.where in BESIDE or rule.where in used:
            continue
        known = {str(each) for each in every}
        if rule.type:
            known = {name for each in every for name in each.types}
        computed = [each for each in every if each.generated and _names(rule, each)]
        if computed:
            raise BadConfiguration(
                f"{rule}: it is computed from other columns, which the masks of those change"
            )
        raise BadConfiguration(
            f"{rule}: no such column, {fields.nearest(rule.type or rule.where, known)}"
        )


def _names(rule: Rule, column: Column) -> bool:
    return not rule.type and rule.matches((column.schema, column.table, column.name))


def _version(decided: Iterable[Decided]) -> str:
    """Return the digest of what the masks do, without their key."""
    lines = (f"{each.column}\0{each.sql}\n" for each in decided if each.masked)
    text = "".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def refuse_undecided(masking: Masking, masks: Masks, without: Collection[int] = ()) -> None:
    """Raise Refused with the columns that are not decided, as a block to paste."""
    undecided = masking.undecided_in(without=without)
    if not masks.required or not undecided:
        return
    number = plural(len(undecided), "column")
    environment = masks.environment
    suggest = typed.task("mask.suggest", environment=environment)
    raise Refused(
        f"{masks.required}: {number} of it {'is' if len(undecided) == 1 else 'are'} neither masked "
        f"nor declared plain, see the rules above ({suggest} guesses them from rows, too)",
        hint=f"decide them in env/{environment}.yaml; these are guesses, read each one:",
        block="\n".join(["mask:", *block.lines((each, guess(each)) for each in undecided)]),
        details={"undecided": [str(each) for each in undecided]},
    )


def _refuse_large_objects(conn: Connection, masks: Masks) -> None:
    query = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"
    if connection.value(conn, query, into=bool):
        raise Refused(
            f"{masks.required}: its large objects are neither left out nor declared plain",
            hint=f'decide them in env/{masks.environment}.yaml:\nmask:\n  {LARGE_OBJECTS}: "null"',
        )
