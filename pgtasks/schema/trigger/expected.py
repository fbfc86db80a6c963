"""Parse the files into the functions and triggers that they describe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pgtasks.schema.trigger.files import SqlFile, Statement, statements
from pgtasks.server.quoting import quoted


@dataclass(frozen=True)
class Argument:
    """An argument of a function. `mode` is pg_proc's: i, o, b (both), v (variadic), t (table)."""

    mode: str
    name: str
    type: str
    default: str = ""


@dataclass(frozen=True)
class Function:
    """A function as CREATE FUNCTION describes it; `body` is None for a BEGIN ATOMIC one."""

    name: str  # quoted, with its schema where the file names one
    arguments: tuple[Argument, ...]
    returns: str
    returns_set: bool
    language: str
    body: str | None
    options: dict[str, str]
    settings: dict[str, tuple[str, ...] | None]  # None: FROM CURRENT, which only the server knows
    where: str
    procedure: bool = False

    @property
    def signature(self) -> str:
        """Return the signature as to_regprocedure accepts it."""
        inputs = ", ".join(argument.type for argument in self.arguments if argument.mode in "ibv")
        return f"{self.name}({inputs})"

    @property
    def unpinned(self) -> bool:
        """Whether it is a trigger function that uses the caller's search_path."""
        return self.returns == "trigger" and "search_path" not in self.settings


@dataclass(frozen=True)
class Trigger:
    """A trigger as CREATE TRIGGER describes it; `enabled` is pg_trigger's O, D, R or A."""

    name: str
    table: str  # quoted
    function: str  # quoted
    node: Any
    where: str
    enabled: str = "O"


@dataclass
class Expected:
    """The functions and triggers of the files, and the statements that `verify` cannot compare."""

    functions: dict[str, Function] = field(default_factory=dict)
    triggers: dict[tuple[str, str], Trigger] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def read(files: Iterable[SqlFile]) -> Expected:
    """Parse the files. If two describe the same object, the last one counts, with a warning."""
    expected = Expected()
    for file in files:
        for statement in statements(file):
            _take(expected, statement)
    for function in expected.functions.values():
        if function.unpinned:
            expected.warnings.append(
                f"{function.where}: {function.name} does not pin search_path: its caller decides "
                "which objects it finds (add SET search_path = pg_catalog, pg_temp)"
            )
    return expected


def _take(expected: Expected, statement: Statement) -> None:
    from pglast import ast, enums

    node = statement.node
    if isinstance(node, ast.CreateFunctionStmt) and not _by_column(node):
        function = _function(node, statement.where)
        _twice(expected, expected.functions.get(function.signature), statement, function.signature)
        expected.functions[function.signature] = function
    elif isinstance(node, ast.CreateTrigStmt):
        trigger = _trigger(node, statement.where)
        key = (trigger.table, trigger.name)
        _twice(expected, expected.triggers.get(key), statement, f"{trigger.name} on {key[0]}")
        expected.triggers[key] = trigger
    elif isinstance(node, ast.DropStmt) and node.removeType == enums.ObjectType.OBJECT_TRIGGER:
        for item in node.objects or ():
            *table, name = [part.sval for part in item]
            expected.triggers.pop((_dotted(table), name), None)
    elif not (isinstance(node, ast.AlterTableStmt) and _enabling(expected, node)):
        expected.unknown.append(f"{statement.where}: {_kind(node)}")


def _by_column(node: Any) -> bool:
    """Whether a type is `table.column%TYPE`, which the server does not store."""
    types = [each.argType for each in node.parameters or ()] + [node.returnType]
    return any(type_ is not None and type_.pct_type for type_ in types)


def _twice(expected: Expected, before: Any, statement: Statement, name: str) -> None:
    if before is not None:
        expected.warnings.append(
            f"{statement.where}: {name} is described at {before.where} too, the last one counts"
        )


def _kind(node: Any) -> str:
    return type(node).__name__.removesuffix("Stmt")


def _enabling(expected: Expected, node: Any) -> bool:
    """Apply ALTER TABLE ... ENABLE or DISABLE TRIGGER; return whether it was only that."""
    states = {
        "AT_EnableTrig": "O",
        "AT_DisableTrig": "D",
        "AT_EnableReplicaTrig": "R",
        "AT_EnableAlwaysTrig": "A",
    }
    table = _relation(node.relation)
    for command in node.cmds or ():
        state = states.get(command.subtype.name)
        known = expected.triggers.get((table, command.name or ""))
        if state is None or known is None:
            return False
        expected.triggers[(table, known.name)] = Trigger(
            known.name, known.table, known.function, known.node, known.where, state
        )
    return True


def _trigger(node: Any, where: str) -> Trigger:
    function = _dotted(part.sval for part in node.funcname)
    return Trigger(node.trigname, _relation(node.relation), function, node, where)


def _function(node: Any, where: str) -> Function:
    options = {
        option.defname: option.arg for option in node.options or () if option.defname != "set"
    }
    arguments = tuple(_argument(each) for each in node.parameters or ())
    body = options.get("as")
    return Function(
        name=_dotted(part.sval for part in node.funcname),
        arguments=arguments,
        returns=type_text(node.returnType) if node.returnType else "",
        returns_set=bool(node.returnType and node.returnType.setof),
        language=options["language"].sval if "language" in options else "sql",
        body=body[0].sval if body else None,
        options=_options(options),
        settings=dict(_setting(each.arg) for each in node.options or () if each.defname == "set"),
        where=where,
        procedure=bool(node.is_procedure),
    )


def _argument(node: Any) -> Argument:
    default = expression_text(node.defexpr) if node.defexpr else ""
    mode = node.mode.value.replace("d", "i")  # d: no mode given, which means IN
    return Argument(mode, node.name or "", type_text(node.argType), default)


def _options(options: dict[str, Any]) -> dict[str, str]:
    """Return the options with pg_proc's names, and its defaults for those not given."""

    def flag(name: str) -> str:
        return "true" if name in options and options[name].boolval else "false"

    volatility = options["volatility"].sval if "volatility" in options else "volatile"
    parallel = options["parallel"].sval.lower() if "parallel" in options else "unsafe"
    return {
        "volatility": {"immutable": "i", "stable": "s", "volatile": "v"}[volatility],
        "parallel": {"safe": "s", "restricted": "r", "unsafe": "u"}.get(parallel, parallel),
        "strict": flag("strict"),
        "security definer": flag("security"),
        "leakproof": flag("leakproof"),
    }


def _setting(node: Any) -> tuple[str, tuple[str, ...] | None]:
    """Return a SET clause as a name and its values."""
    if node.kind.name == "VAR_SET_CURRENT":
        return node.name.lower(), None
    return node.name.lower(), tuple(_constant(each) for each in node.args or ())


def _constant(node: Any) -> str:
    value = node.val
    for attribute in ("sval", "fval", "ival", "boolval"):
        if hasattr(value, attribute):
            return str(getattr(value, attribute))
    return expression_text(node)


def type_text(node: Any) -> str:
    """Return the name of a type as SQL, without SETOF."""
    from pglast import stream

    text = str(stream.RawStream()(node))
    return text.removeprefix("SETOF ").removeprefix("setof ")


def expression_text(node: Any) -> str:
    """Return an expression as SQL."""
    from pglast import stream

    return str(stream.RawStream()(node))


def _relation(node: Any) -> str:
    return _dotted(filter(None, (node.schemaname, node.relname)))


def _dotted(parts: Iterable[str]) -> str:
    return ".".join(map(quoted, parts))
