"""Turn rules into the SQL that is read in place of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pgtasks.copy.mask import expression, ready
from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.expression import Fault
from pgtasks.copy.mask.masking import Decided
from pgtasks.copy.mask.ready import Ready
from pgtasks.copy.mask.rules import PLAIN, Rule
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.mask.values import Unfit
from pgtasks.copy.part import foreign
from pgtasks.copy.part.expressions import Names
from pgtasks.copy.part.foreign import Foreign
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.settings import fields

_OF_PLAIN_ROLE = (
    "a type of a plain role, whose casts and checks would run with the rights of a superuser: let "
    "a reader of the environment copy (`reader`)"
)
_FOR_EACH = "for columns by pattern or type, the column itself is called {column}"


def compiled(conn: Connection, decided: Iterable[Decided], encoding: str) -> Iterator[Decided]:
    """Yield the columns with the SQL of their masks."""
    own: list[tuple[Decided, str, Names]] = []
    every = list(decided)
    results = [each for each in every if each.rule is None or each.rule.plain]
    types = foreign.types(conn) if len(results) < len(every) else Foreign()
    for each in every:
        if each.rule is None or each.rule.plain:
            continue
        _refuse_type(each.column, [each.column.name], types)
        if (mask := ready_mask(each.rule)) is not None:
            _refuse_type(each.column, [mask.by], types)
            results.append(_fitted(each, mask, each.rule, encoding))
            if mask.by:  # which may not exist
                _prepare(conn, results[-1])
        else:
            text, used = _checked(each.column, each.rule)
            own.append((each, text, used))
    faults = expression.refuse_changing(conn, [used for _, _, used in own]) if own else {}
    for each, text, used in own:
        _refuse_type(each.column, used.columns, types)
        _refuse_types(each, used, types)
        for name in (*used.functions, *used.operators):
            if name in faults:
                raise BadConfiguration(f"{each.rule}: {faults[name]}")
        made = replace(each, sql=_cast(f"{text}\n", each.column))
        results.append(made)
        _prepare(conn, made)
    yield from sorted(results, key=lambda each: (each.column.relation, each.column.number))


def ready_mask(rule: Rule) -> Ready | None:
    """Return the ready-made mask of a rule, None if it has an expression."""
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
    return f"CAST(({sql}) AS {column.cast})"


def _refuse_type(column: Column, used: Iterable[str], types: Foreign) -> None:
    """Raise Refused if a mask reads or gives a value whose casts are code of a plain role."""
    for name in used:
        if (column.relation, name) in types.columns:
            which = "it is" if name == column.name else f"its mask reads {quoted(name)}, which is"
            raise Refused(f"{column}: {which} of {_OF_PLAIN_ROLE}")


def _refuse_types(each: Decided, used: Names, types: Foreign) -> None:
    """Raise Refused if an expression names a type whose casts are code of a plain role."""
    row = (each.column.schema, each.column.table)
    whole = [row] if {"*", each.column.table} & set(used.columns) else []
    if read := types.read(each.column.relation, used.columns):
        raise Refused(f"{each.column}: its mask reads {quoted(read)}, which is of {_OF_PLAIN_ROLE}")
    # a call may be a cast to the type of that name
    if name := types.named((*used.types, *used.functions, *used.operators, *whole)):
        raise Refused(f"{each.column}: {name} is, or takes, {_OF_PLAIN_ROLE}")


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


def refuse_without_key(masks: Masks, decided: Iterable[Decided]) -> None:
    """Raise BadConfiguration if a mask needs a key and there is none."""
    for each in decided:
        mask = ready_mask(each.rule) if each.rule and not each.rule.plain else None
        if mask and mask.keyed and not masks.secrets:
            name = masks.environment
            raise BadConfiguration(
                f"{each.rule}: {each.rule and each.rule.text} needs the key of the masks: put "
                f"MASK_KEY=... into env/{name}.env, or set mask_key_command; "
                "`openssl rand -hex 32` prints a good one"
            )
