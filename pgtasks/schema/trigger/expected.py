"""Parse the files into the functions and triggers that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pgtasks.schema.trigger import beside
from pgtasks.schema.trigger.beside import Beside
from pgtasks.schema.trigger.files import SqlFile, Statement, statements
from pgtasks.server import parser
from pgtasks.server.quoting import quoted

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb


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
    text: str
    procedure: bool = False

    @property
    def kind(self) -> str:
        """Return function or procedure."""
        return "procedure" if self.procedure else "function"

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
    definition: str
    where: str
    enabled: str = "O"

    @property
    def text(self) -> str:
        """Return the definition with its state."""
        return f"{self.definition.strip()} {self.enabled}"

    @property
    def shown(self) -> str:
        """Return its name for people."""
        return shown(self.name, self.table)


@dataclass(frozen=True)
class Step:
    """A statement of the files, and the objects that it creates, drops or enables.

    An object is its kind and its name, as in a `Difference`; there are none if the statement may
    have another effect, which cannot be compared.
    """

    statement: Statement
    objects: tuple[tuple[str, str], ...] = ()


@dataclass
class Expected:
    """The functions and triggers of the files, and the statements that `verify` cannot compare."""

    functions: dict[str, Function] = field(default_factory=dict)
    triggers: dict[tuple[str, str], Trigger] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    droppers: list[Message] = field(default_factory=list)  # statements that drop, or may drop
    beside: list[Beside] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Return the number of the objects."""
        return len(self.functions) + len(self.triggers) + len(self.beside)


def read(files: Iterable[SqlFile]) -> Expected:
    """Parse the files. If two describe the same object, the last one counts, with a warning."""
    expected = Expected()
    for file in files:
        for statement in statements(file):
            expected.steps.append(Step(statement, tuple(_take(expected, statement))))
    for function in expected.functions.values():
        if function.unpinned:
            expected.warnings.append(
                f"{function.where}: {function.name} does not pin search_path: its caller decides "
                "which objects it finds (add SET search_path = pg_catalog, pg_temp, and write every"
                " other name in it with its schema, such as public.orders)"
            )
    return expected


def _take(expected: Expected, statement: Statement) -> Iterator[tuple[str, str]]:
    """Take what a statement describes, and yield the objects that it concerns."""
    from postgast import pg_query_pb2 as pb

    node = statement.node
    _warn_of_once(expected, statement)
    if isinstance(node, pb.DropStmt | pb.DoStmt):
        expected.droppers.append(node)
    if isinstance(node, pb.CreateFunctionStmt) and not _by_column(node):
        function = _function(node, statement)
        _twice(expected, expected.functions.get(function.signature), statement, function.signature)
        expected.functions[function.signature] = function
        yield function.kind, function.signature
    elif isinstance(node, pb.CreateTrigStmt):
        trigger = _trigger(node, statement)
        key = (trigger.table, trigger.name)
        _twice(expected, expected.triggers.get(key), statement, trigger.shown)
        expected.triggers[key] = trigger
        yield "trigger", trigger.shown
    elif isinstance(node, pb.DropStmt) and node.remove_type == pb.OBJECT_TRIGGER:
        for table, name in dropped(node):
            expected.triggers.pop((table, name), None)
            yield "trigger", shown(name, table)
    elif isinstance(node, pb.AlterTableStmt) and (states := _states(expected, node)):
        for trigger in states:
            expected.triggers[(trigger.table, trigger.name)] = trigger
            yield "trigger", trigger.shown
    elif aside := beside.read(node, statement.where):
        expected.beside.append(aside)
        yield aside.kind, aside.name
    else:
        expected.unknown.append(f"{statement.where}: {_kind(node)}")


def shown(name: str, table: str) -> str:
    """Return the name of a trigger for people."""
    return f"{name} on {table}"


def dropped(node: pb.DropStmt) -> Iterator[tuple[str, str]]:
    """Yield table and name of the triggers that a DROP TRIGGER drops."""
    for item in node.objects:
        *table, name = item.list.items
        yield parser.dotted(table), name.string.sval


def _warn_of_once(expected: Expected, statement: Statement) -> None:
    """Warn of a trigger that can be created only once, unless a statement before may drop it."""
    from postgast import pg_query_pb2 as pb

    node, way_out = statement.node, once(statement.node)
    if not way_out or not isinstance(node, pb.CreateTrigStmt):
        return
    if any(_may_drop(dropper, node.trigname) for dropper in expected.droppers):
        return
    name = f"{node.trigname} on {parser.relation(node.relation)}"
    expected.warnings.append(
        f"{statement.where}: trigger {name}: CREATE TRIGGER fails if the trigger exists already"
        f" ({way_out})"
    )


def _may_drop(node: Message, trigger: str) -> bool:
    """Whether a DROP or DO may drop a trigger. DROP FUNCTION ... CASCADE and DO may drop any."""
    from postgast import pg_query_pb2 as pb

    if not isinstance(node, pb.DropStmt) or node.remove_type != pb.OBJECT_TRIGGER:
        return True
    return any(item.list.items[-1].string.sval == trigger for item in node.objects)


def once(node: Message | None) -> str:
    """Return the way to apply again what creates something only once, empty where none is known."""
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.CreateRoleStmt):
        return "write a DO block that looks into pg_roles first, so that the file can run again"
    if not isinstance(node, pb.CreateTrigStmt) or node.replace:
        return ""
    if node.isconstraint:
        name, table = quoted(node.trigname), parser.relation(node.relation)
        return f"write DROP TRIGGER IF EXISTS {name} ON {table}; before it"
    return "write CREATE OR REPLACE TRIGGER, so that the file can be applied again"


def _by_column(node: pb.CreateFunctionStmt) -> bool:
    """Whether a type is `table.column%TYPE`, which the server does not store."""
    types = [each.function_parameter.arg_type for each in node.parameters]
    return any(each.pct_type for each in (*types, node.return_type))


def _twice(
    expected: Expected, before: Function | Trigger | None, statement: Statement, name: str
) -> None:
    if before is not None:
        expected.warnings.append(
            f"{statement.where}: {name} is described at {before.where} too, the last one counts"
        )


def _kind(node: Message | None) -> str:
    if node is None:
        return "nested too deeply to be compared"
    return type(node).__name__.removesuffix("Stmt")


def _states(expected: Expected, node: pb.AlterTableStmt) -> list[Trigger]:
    """Return the triggers as ALTER TABLE ... ENABLE or DISABLE TRIGGER leaves them.

    It returns none if the statement does anything else, or names a trigger that no file has.
    """
    from postgast import pg_query_pb2 as pb

    states: dict[int, str] = {
        pb.AT_EnableTrig: "O",
        pb.AT_DisableTrig: "D",
        pb.AT_EnableReplicaTrig: "R",
        pb.AT_EnableAlwaysTrig: "A",
    }
    table = parser.relation(node.relation)
    triggers = []
    for command in (each.alter_table_cmd for each in node.cmds):
        state = states.get(command.subtype)
        known = expected.triggers.get((table, command.name))
        if state is None or known is None:
            return []
        triggers.append(replace(known, enabled=state))
    return triggers


def _trigger(node: pb.CreateTrigStmt, statement: Statement) -> Trigger:
    return Trigger(
        name=node.trigname,
        table=parser.relation(node.relation),
        function=parser.dotted(node.funcname),
        definition=statement.text,
        where=statement.where,
    )


def _function(node: pb.CreateFunctionStmt, statement: Statement) -> Function:
    clauses = [each.def_elem for each in node.options]
    options = {each.defname: each.arg for each in clauses if each.defname != "set"}
    return Function(
        name=parser.dotted(node.funcname),
        arguments=_arguments(node, parser.defaults(statement.text)),
        returns=parser.type_text(node.return_type) if node.HasField("return_type") else "",
        returns_set=node.return_type.setof,
        language=options["language"].string.sval if "language" in options else "sql",
        body=options["as"].list.items[0].string.sval if "as" in options else None,
        options=_options(options),
        settings=dict(
            _setting(each.arg.variable_set_stmt) for each in clauses if each.defname == "set"
        ),
        where=statement.where,
        text=statement.text,
        procedure=node.is_procedure,
    )


def _arguments(node: pb.CreateFunctionStmt, defaults: Iterable[str]) -> tuple[Argument, ...]:
    values = iter(defaults)
    return tuple(
        Argument(
            mode=_mode(each),
            name=each.name,
            type=parser.type_text(each.arg_type),
            default=next(values) if each.HasField("defexpr") else "",
        )
        for each in (parameter.function_parameter for parameter in node.parameters)
    )


def _mode(node: pb.FunctionParameter) -> str:
    from postgast import pg_query_pb2 as pb

    modes: dict[int, str] = {
        pb.FUNC_PARAM_OUT: "o",
        pb.FUNC_PARAM_INOUT: "b",
        pb.FUNC_PARAM_VARIADIC: "v",
        pb.FUNC_PARAM_TABLE: "t",
    }
    return modes.get(node.mode, "i")


def _options(options: Mapping[str, pb.Node]) -> dict[str, str]:
    """Return the options with pg_proc's names, and its defaults for those not given."""

    def flag(name: str) -> str:
        return "true" if name in options and options[name].boolean.boolval else "false"

    volatility = options["volatility"].string.sval if "volatility" in options else "volatile"
    parallel = options["parallel"].string.sval.lower() if "parallel" in options else "unsafe"
    return {
        "volatility": {"immutable": "i", "stable": "s", "volatile": "v"}[volatility],
        "parallel": {"safe": "s", "restricted": "r", "unsafe": "u"}.get(parallel, parallel),
        "strict": flag("strict"),
        "security definer": flag("security"),
        "leakproof": flag("leakproof"),
    }


def _setting(node: pb.VariableSetStmt) -> tuple[str, tuple[str, ...] | None]:
    """Return a SET clause as a name and its values, None if only the server knows them."""
    from postgast import pg_query_pb2 as pb

    if node.kind == pb.VAR_SET_CURRENT or not all(each.HasField("a_const") for each in node.args):
        return node.name.lower(), None
    return node.name.lower(), tuple(_constant(each.a_const) for each in node.args)


def _constant(node: pb.A_Const) -> str:
    kind = node.WhichOneof("val")
    return str(getattr(getattr(node, kind), kind)) if kind else ""
