"""Show how definitions of files and database differ, as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.errors import NotProven
from pgtasks.report import typed
from pgtasks.schema.trigger import expected, installed, rules
from pgtasks.schema.trigger.expected import Expected, Function, Trigger
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.installed import InstalledTrigger
from pgtasks.schema.trigger.normalize import trigger_shape
from pgtasks.schema.trigger.verify import Difference, compare, prepare
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target

_ENABLED = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "volatility": {"i": "IMMUTABLE", "s": "STABLE", "v": ""},
    "parallel": {"s": "PARALLEL SAFE", "r": "PARALLEL RESTRICTED", "u": ""},
    "strict": {"true": "STRICT", "false": ""},
    "security definer": {"true": "SECURITY DEFINER", "false": ""},
    "leakproof": {"true": "LEAKPROOF", "false": ""},
}


@dataclass(frozen=True)
class Diff:
    """The diff of one object: `-` is what the database has, `+` what the file has."""

    kind: str
    name: str
    state: str
    where: str
    diff: str


@dataclass(frozen=True)
class Diffs:
    """The diffs of all objects that differ."""

    diffs: tuple[Diff, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.diffs:
            return ["files and database agree"]
        return [line for each in self.diffs for line in each.diff.splitlines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"diffs": [asdict(each) for each in self.diffs]}

    def check(self) -> None:
        """Raise NotProven if there is a difference."""
        if self.diffs:
            count = report.plural(len(self.diffs), "difference")
            raise NotProven(
                f"files and database differ: {count}, {typed.task('trigger.apply')} brings what is"
                f" marked +, {typed.task('trigger.drop', '--orphans')} removes orphans",
                details=self.as_json(),
            )


def diff(files: Sequence[SqlFile], target: Target) -> Diffs:
    """Return how the files differ from the database; parts that mean the same are not shown."""
    session = connection.session(target, read_only=True, purpose="diff", own_path=True)
    with session as conn:
        prepare(conn)
        described = rules.described(conn, files)
        findings = [each for each in compare(conn, described).findings if each.state != "INSTALLED"]
        texts = _texts(conn, described, findings) if findings else []
    return Diffs(
        tuple(
            Diff(each.kind, each.name, each.state, each.where, _unified(each, theirs, ours))
            for each, (theirs, ours) in zip(findings, texts, strict=True)
        )
    )


def _unified(finding: Difference, theirs: Sequence[str], ours: Sequence[str]) -> str:
    name = f"{finding.kind} {finding.name}"
    tail = f" ({finding.state})"
    file = f"{finding.where}{tail}" if finding.where else f"no file{tail}"
    lines = difflib.unified_diff(theirs, ours, f"database: {name}", file, lineterm="")
    return "\n".join(lines)


Texts = tuple[Sequence[str], Sequence[str]]  # the lines of the database and of the file


def _texts(conn: Connection, described: Expected, findings: Sequence[Difference]) -> list[Texts]:
    functions = {(each.kind, each.signature): each for each in described.functions.values()}
    triggers = {each.shown: each for each in described.triggers.values()}
    actual = _actual_triggers(conn, described)
    texts: list[Texts] = []
    for each in findings:
        function, trigger = functions.get((each.kind, each.name)), triggers.get(each.name)
        if function is not None:
            texts.append(_of_function(conn, function, each))
        elif trigger is not None and each.state != "ORPHAN":
            texts.append(_of_trigger(trigger, actual.get(each.name), each.parts))
        elif each.state == "ORPHAN":
            texts.append((_of_orphan(actual[each.name]), []))
        else:
            texts.append(([], [each.name]))
    return texts


def _of_orphan(orphan: InstalledTrigger) -> list[str]:
    try:
        shape, function = trigger_shape(orphan.definition), _function_of(orphan.definition)
    except parser.TooDeep:
        return [orphan.definition]
    return _lines(orphan.name, orphan.table, function, shape, orphan.enabled)


def _actual_triggers(conn: Connection, described: Expected) -> dict[str, InstalledTrigger]:
    """Return the triggers of the database by the names that findings have."""
    wanted = list(described.triggers.values())
    tables = installed.table_oids(conn, [each.table for each in wanted])
    names = {(oid, each.name): each.shown for oid, each in zip(tables, wanted, strict=True)}
    return {
        names.get((each.table_oid, each.name), expected.shown(each.name, each.table)): each
        for each in installed.triggers(conn)
    }


def _of_function(conn: Connection, function: Function, finding: Difference) -> Texts:
    ours = list(_function_lines(function))
    if finding.state == "MISSING":
        return [], ours
    (oid,) = installed.function_oids(conn, [function.signature])
    actual = installed.functions(conn, [oid] if oid is not None else [])
    if oid not in actual:
        return [], ours
    (theirs,) = expected.read([SqlFile("database", actual[oid].definition)]).functions.values()
    return list(_function_lines(_as_far_as_equal(function, theirs, finding.parts))), ours


def _as_far_as_equal(ours: Function, theirs: Function, parts: Collection[str]) -> Function:
    """Return the database's function, with the file's spelling of the parts that are the same."""
    same = {
        "arguments": {"arguments", "default values"},
        "returns": {"return type"},
        "returns_set": {"return type"},
        "language": {"language"},
        "procedure": {"kind"},
        "body": {"body"},
    }
    settings = {
        name: (theirs if name in parts else ours).settings[name]
        for name in sorted({*ours.settings, *theirs.settings})
        if name in (theirs if name in parts else ours).settings
    }
    kept = {field: getattr(ours, field) for field, names in same.items() if not names & {*parts}}
    return replace(theirs, name=ours.name, settings=settings, **kept)


def _function_lines(function: Function) -> Iterator[str]:
    arguments = ", ".join(
        " ".join(filter(None, (each.name and quoted(each.name), each.type)))
        + (f" DEFAULT {' '.join(each.default.split())}" if each.default else "")
        for each in function.arguments
    )
    yield f"CREATE {function.kind.upper()} {function.name}({arguments})"
    if function.returns:
        yield f"    RETURNS {'SETOF ' if function.returns_set else ''}{function.returns}"
    yield f"    LANGUAGE {function.language}"
    for option, value in function.options.items():
        if word := _OPTIONS[option].get(value, value):
            yield f"    {word}"
    for name, values in sorted(function.settings.items()):
        yield f"    SET {name} " + ("FROM CURRENT" if values is None else f"= {', '.join(values)}")
    if function.body is None:
        yield "BEGIN ATOMIC ..."
    else:
        yield "AS"
        yield from function.body.splitlines()


def _of_trigger(trigger: Trigger, actual: InstalledTrigger | None, parts: Collection[str]) -> Texts:
    shape = trigger_shape(trigger.definition)
    ours = _lines(trigger.name, trigger.table, trigger.function, shape, trigger.enabled)
    if actual is None:
        return [], ours
    if "definition" in parts:  # nested too deeply to be taken apart
        return [actual.definition], ours
    theirs = {**shape}
    function = trigger.function
    if parts:
        changed = trigger_shape(actual.definition)
        theirs |= {part: changed[part] for part in parts if part in changed}
        function = _function_of(actual.definition) if "function" in parts else function
    lines = _lines(trigger.name, trigger.table, function, theirs, actual.enabled)
    return [*lines, *(f"    -- disabled in {each}" for each in actual.unlike)], ours


def _function_of(definition: str) -> str:
    from postgast import pg_query_pb2 as pb

    node = parser.statement(definition)
    assert isinstance(node, pb.CreateTrigStmt)
    return parser.dotted(node.funcname)


def _lines(
    name: str, table: str, function: str, shape: Mapping[str, Any], enabled: str
) -> list[str]:
    constraint, deferrable, deferred = shape["constraint"]
    of = f" OF {', '.join(map(quoted, shape['columns']))}" if shape["columns"] else ""
    events = " OR ".join(each + of if each == "UPDATE" else each for each in shape["events"])
    arguments = ", ".join("'{}'".format(each.replace("'", "''")) for each in shape["arguments"])
    lines = [
        f"CREATE {'CONSTRAINT ' if constraint else ''}TRIGGER {quoted(name)}",
        f"    {shape['timing']} {events} ON {table}",
    ]
    if deferrable:
        lines.append(f"    DEFERRABLE INITIALLY {'DEFERRED' if deferred else 'IMMEDIATE'}")
    for transition, is_new in shape["transition tables"]:
        kind = "NEW" if is_new else "OLD"
        lines.append(f"    REFERENCING {kind} TABLE AS {quoted(transition)}")
    lines.append(f"    FOR EACH {str(shape['level']).upper()}")
    if shape["when"]:
        lines.append(f"    WHEN ({_deparsed(shape['when'])})")
    lines.append(f"    EXECUTE FUNCTION {function}({arguments})")
    if enabled != "O":
        lines.append(f"    -- {_ENABLED[enabled]} TRIGGER")
    return lines


def _deparsed(expression: str) -> str:
    from postgast import deparse, parse

    text: str = deparse(parse(f"SELECT {expression}"))
    return text.removeprefix("SELECT ")
