"""Decide each column of a source: masked, plain, or not decided."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks.copy.mask import block, columns, expression, ready
from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.expression import Fault, Names
from pgtasks.copy.mask.guess import guess
from pgtasks.copy.mask.ready import Ready, Unfit
from pgtasks.copy.mask.rules import BESIDE, LARGE_OBJECTS, PLAIN, USER_MAPPINGS, Rule
from pgtasks.copy.mask.settings import Masks
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.report import plural
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.settings import fields

_FOR_EACH = "for columns by pattern or type, the column itself is called {column}"


@dataclass(frozen=True)
class Decided:
    """A column with its rule, None if there is none, and the SQL of its mask."""

    column: Column
    rule: Rule | None
    sql: str = ""

    @property
    def masked(self) -> bool:
        """Whether something else is read in place of the values."""
        return bool(self.sql)


@dataclass(frozen=True)
class Masking:
    """The decisions about all columns of a source; `version` identifies what the masks do.

    `beside` has what is decided about what is no column; `required` is whether all must be decided.
    """

    columns: tuple[Decided, ...] = ()
    version: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    required: bool = False

    @property
    def masked(self) -> tuple[Decided, ...]:
        """Return the masked columns."""
        return tuple(each for each in self.columns if each.masked)

    @property
    def undecided(self) -> tuple[Column, ...]:
        """Return the columns without a rule; partitions have those of their table."""
        return tuple(
            each.column for each in self.columns if each.rule is None and not each.column.ancestors
        )

    @property
    def without_large_objects(self) -> bool:
        """Whether large objects are left out."""
        return self.beside.get(LARGE_OBJECTS) == "null"

    @property
    def without_user_mappings(self) -> bool:
        """Whether user mappings with options, which have passwords, are left out."""
        asked = self.beside.get(USER_MAPPINGS)
        return asked == "null" or bool(asked is None and (self.masked or self.required))

    def applied(self, relations: Iterable[Relation]) -> tuple[Relation, ...]:
        """Return relations that read the masks in place of their columns."""
        masks: dict[int, dict[str, str]] = {}
        for each in self.masked:
            masks.setdefault(each.column.relation, {})[each.column.name] = each.sql
        return tuple(
            _masked(relation, masks[relation.oid]) if relation.oid in masks else relation
            for relation in relations
        )

    def unchanged(self, counted: Mapping[tuple[str, str, str], int]) -> list[str]:
        """Return one line for each mask that left values as they are, and may not."""
        partly = {
            (each.column.schema, each.column.table, each.column.name)
            for each in self.masked
            if each.rule and each.rule.partly
        }
        lines = []
        for name, number in sorted(counted.items()):
            if number and name not in partly:
                column = ".".join(map(quoted, name))
                lines.append(f"{column}: {plural(number, 'value')} as in the source")
        return lines

    def lines(self) -> list[str]:
        """Return one line for a plan, none without masks."""
        if not self.masked:
            return []
        columns = [each.column for each in self.masked if not each.column.ancestors]
        tables = {each.relation for each in columns}
        return [
            f"{plural(len(columns), 'column')} of {plural(len(tables), 'table')}, "
            f"rules {self.version}"
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "version": self.version,
            "columns": {str(each.column): each.rule.text for each in self.masked if each.rule},
        }

    def routes(self) -> frozenset[int]:
        """Return the partitioned tables whose rows may belong into other partitions."""
        return frozenset(table for each in self.masked for table in each.column.parts)


def _masked(relation: Relation, expressions: Mapping[str, str]) -> Relation:
    """Return a relation with masks, raising Refused if a query of it would run code of others.

    A table without masks is copied without a query.
    """
    if relation.foreign_code or relation.own_cast:
        raise Refused(
            f"table {relation}: its masks would run code of another role, of an index, statistics "
            "or a cast, with the rights of this one: copy as its owner"
        )
    return replace(relation, expressions=expressions)


@dataclass
class _Rules:
    """The rules, and which of them were for a column."""

    masks: Masks
    used: set[str] = field(default_factory=set)

    def of(self, column: Column, names: Mapping[int, tuple[str, str]]) -> Rule | None:
        """Return the rule for a column: by its name, else by a pattern, else by its type."""
        own = [(column.schema, column.table), *(names[each] for each in column.ancestors)]
        named = [
            rule
            for rule in self.masks.rules
            if rule.where not in BESIDE
            and not rule.type
            and any(rule.matches((*table, column.name)) for table in own)
        ]
        typed = [rule for rule in self.masks.rules if rule.type in column.types]
        self.used |= {rule.where for rule in (*named, *typed)}
        exact = [rule for rule in named if rule.exact]
        for chosen in (exact, named, typed):
            if chosen:
                return _heaviest(chosen, column)
        return None


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
    made = list(_compiled(conn, chosen(conn, masks), encoding))
    _refuse_without_key(masks, made)
    _refuse_broken(conn, made)
    beside = {rule.where: rule.text for rule in masks.rules if rule.where in BESIDE}
    return Masking(tuple(made), _version(made), beside, bool(masks.required))


def chosen(conn: Connection, masks: Masks) -> list[Decided]:
    """Return all columns but the generated ones, each with its rule."""
    every = columns.read(conn)
    names = {each.relation: (each.schema, each.table) for each in every}
    rules = _Rules(masks)
    decided = [Decided(each, rules.of(each, names)) for each in every if not each.generated]
    _refuse_unused(masks, rules.used, every)
    return decided


def is_ready(rule: Rule) -> bool:
    """Return whether the mask of a rule is a ready-made one."""
    return _ready(rule) is not None


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


def _compiled(conn: Connection, decided: Iterable[Decided], encoding: str) -> Iterator[Decided]:
    """Yield the columns with the SQL of their masks."""
    own: list[tuple[Decided, str, Names]] = []
    results = []
    for each in decided:
        if each.rule is None or each.rule.plain:
            results.append(each)
        elif (mask := _ready(each.rule)) is not None:
            results.append(_fitted(each, mask, each.rule, encoding))
        else:
            text, used = _checked(each.column, each.rule)
            own.append((each, text, used))
    faults = expression.refuse_changing(conn, [used for _, _, used in own]) if own else {}
    for each, text, used in own:
        for name in (*used.functions, *used.operators):
            if name in faults:
                raise BadConfiguration(f"{each.rule}: {faults[name]}")
        made = replace(each, sql=_cast(f"{text}\n", each.column))
        results.append(made)
        _prepare(conn, made)
    yield from sorted(results, key=lambda each: (each.column.relation, each.column.number))


def _ready(rule: Rule) -> Ready | None:
    try:
        return ready.find(rule.text)
    except BadConfiguration as exc:
        raise BadConfiguration(f"{rule}: {exc.message}") from None


def _fitted(each: Decided, mask: Ready, rule: Rule, encoding: str) -> Decided:
    try:
        sql = mask.masked(each.column, encoding)
    except Unfit as exc:
        raise BadConfiguration(f"{rule}: {rule.text} does not fit {each.column}: {exc}") from None
    return replace(each, sql=_cast(sql, each.column))


def _checked(column: Column, rule: Rule) -> tuple[str, Names]:
    text = expression.written(rule.text, column)
    try:
        used = expression.names(text)
        if expression.is_itself(text, column):
            raise Fault(f"it is the column itself, which {PLAIN!r} says")
    except Fault as exc:
        near = ""
        if rule.text.isidentifier():
            near = f", {fields.nearest(rule.text, (PLAIN, *ready.SIMPLE))}"
        raise BadConfiguration(f"{rule}: {rule.text!r}: {exc}{near}") from None
    return text, used


def _cast(sql: str, column: Column) -> str:
    if column.foreign_cast:
        raise Refused(
            f"{column}: a cast to {column.cast} belongs to a plain role, whose code would run with "
            "the rights of a superuser: let a reader of the environment copy (`reader`)"
        )
    return f"CAST(({sql}) AS {column.cast})"


def _prepare(conn: Connection, each: Decided) -> None:
    rule = each.rule
    try:
        expression.prepare(conn, each.column, each.sql)
    except Fault as exc:
        words = f"{rule}: {exc}"
        if rule and rule.text.isidentifier():
            words += f", {fields.nearest(rule.text, (PLAIN, *ready.SIMPLE))}"
        elif rule and not rule.exact and expression.COLUMN not in rule.text:
            words += f"; {_FOR_EACH}"
        raise BadConfiguration(words) from None


def _refuse_without_key(masks: Masks, decided: Iterable[Decided]) -> None:
    for each in decided:
        mask = _ready(each.rule) if each.rule and not each.rule.plain else None
        if mask and mask.keyed and not masks.secrets:
            name = masks.environment
            raise BadConfiguration(
                f"{each.rule}: {each.rule and each.rule.text} needs the key of the masks: put "
                f"MASK_KEY=... into env/{name}.env, or set mask_key_command; "
                "`openssl rand -hex 32` prints a good one"
            )


def _refuse_broken(conn: Connection, decided: Sequence[Decided]) -> None:
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
            mask = _ready(each.rule) if each and each.masked and each.rule else None
            if each and each.rule and mask and not mask.wide(each.column):
                yield (
                    f"{each.rule}: {each.rule.text} does not keep the values of {each.column} "
                    f"distinct, as index {index.name!r} demands: take hash, uuid or email"
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


def _version(decided: Iterable[Decided]) -> str:
    """Return the digest of what the masks do, without their key."""
    lines = (f"{each.column}\0{each.sql}\n" for each in decided if each.masked)
    text = "".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def refuse_undecided(masking: Masking, masks: Masks, without: Collection[int] = ()) -> None:
    """Raise Refused with the columns that are not decided, as a block to paste."""
    undecided = [each for each in masking.undecided if each.relation not in without]
    if not masks.required or not undecided:
        return
    number = plural(len(undecided), "column")
    raise Refused(
        f"{masks.required}: {number} of it {'is' if len(undecided) == 1 else 'are'} neither masked "
        "nor declared plain",
        hint="\n".join(_block(undecided, masks.environment)),
        details={"undecided": [str(each) for each in undecided]},
    )


def _refuse_large_objects(conn: Connection, masks: Masks) -> None:
    query = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"
    if connection.value(conn, query, into=bool):
        raise Refused(
            f"{masks.required}: its large objects are neither left out nor declared plain",
            hint=f'decide them in env/{masks.environment}.yaml:\nmask:\n  {LARGE_OBJECTS}: "null"',
        )


def _block(undecided: Sequence[Column], environment: str) -> list[str]:
    """Return the rules to paste into the file of an environment, guessed."""
    return [
        f"decide them in env/{environment}.yaml; these are guesses, read each one:",
        "mask:",
        *block.lines((each, guess(each)) for each in undecided),
    ]
