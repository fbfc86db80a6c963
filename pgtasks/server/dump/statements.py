"""Which statements of an archive may run, or be printed: for each kind of entry, those of pg_dump.

A backup is not trusted: its archive may contain any SQL, and commands of psql, in the place of a
definition. Each statement must be of a kind that pg_dump writes for the entry, and name the object
of the entry. What is not listed here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.server import parser
from pgtasks.server.dump import kinds, nodes
from pgtasks.server.parser import SyntaxFault
from pgtasks.server.proof.entries import Key
from pgtasks.server.proof.toc import Entry

Check = Callable[[Sequence[Any]], bool]

TABLES = ("TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW")
_NO_CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")
_OTHERS = "its definition has other statements than pg_dump writes for it"


@dataclass(frozen=True)
class Allowed:
    """What the script may have of one archive.

    `new` are the objects that the other side lacks, so that the script makes them; an archive that
    is not `trusted` must not have what runs its functions.
    """

    new: Collection[Key]
    trusted: bool

    def definition(self, entry: Entry, replaced: str = "") -> Check:
        """Return the check of the definition of an entry.

        It may replace an object whose definition is given, which must be the same one.
        """

        def check(parsed: Sequence[Any]) -> bool:
            made = [self._makes(entry, node) for node in parsed]
            if sum(made) > 1 or not all(
                makes or _is_beside(entry, node) for makes, node in zip(made, parsed, strict=True)
            ):
                return False
            anew = [node for node in parsed if getattr(node, "replace", False)]
            if entry.desc == "RULE":  # pg_dump replaces a view that it created without its query
                return True
            return not anew or (bool(replaced) and _is_same(anew[0], replaced))

        return check

    def grant(self, entry: Entry) -> Check:
        """Return the check of one statement of an ACL entry."""
        return lambda parsed: (
            len(parsed) == 1 and kinds.grants(entry, parsed[0], self.is_of_new(entry))
        )

    def is_of_new(self, entry: Entry) -> bool:
        """Return whether an ACL entry is that of an object which the script makes."""
        kind, _, name = entry.tag.partition(" ")
        kinds = (*TABLES, "VIEW") if kind == "TABLE" else (kind,)
        names = name.replace('"', "")
        return any(
            key[0] in kinds and key[1] == entry.namespace and key[2].replace('"', "") == names
            for key in self.new
        )

    def _makes(self, entry: Entry, node: Any) -> bool:
        own = kinds.OWN_MAKERS.get(entry.desc) if self.trusted else None
        rule = own or kinds.MAKERS.get(entry.desc)
        if rule is None or not rule(entry, node):
            return False
        return self.trusted or not self._runs(entry, node)

    def _runs(self, entry: Entry, node: Any) -> bool:
        """Return whether a statement may run code of the archive's maker now."""
        if entry.desc in ("FUNCTION", "PROCEDURE"):
            return any(  # the server loads a library when it creates a function in it
                each.def_elem.defname == "language"
                and each.def_elem.arg.string.sval in ("c", "internal")
                for each in node.options
            )
        if entry.desc == "TYPE":
            return type(node).__name__ == "DefineStmt"
        if entry.desc == "TABLE":
            return _has_code(node.partspec)
        if entry.desc == "TABLE ATTACH" and not self._is_new(entry.namespace, entry.tag):
            return True  # its rows are checked with the expressions of the parent
        if entry.desc in ("CHECK CONSTRAINT", "TABLE ATTACH"):
            return _has_code(node, builtin=False)
        # the planner evaluates functions of constants, even if a table has no rows
        return entry.desc in ("INDEX", "CONSTRAINT", "STATISTICS") and _has_code(node)

    def _is_new(self, schema: str, name: str) -> bool:
        return any((kind, schema, name) in self.new for kind in TABLES)


def refusal(statement: str, check: Check) -> str:
    """Return why a statement is not printed, empty if nothing is wrong with it."""
    if _NO_CONTROLS.search(statement):
        return "its definition has control characters"
    try:
        parsed = [each.node for each in parser.parse(statement)]
        if _has_variable(statement):
            return "its definition has what psql would take for a variable"
    except SyntaxFault:
        return "its definition is no SQL that is known here"
    return "" if all(node is not None for node in parsed) and check(parsed) else _OTHERS


def owner(entry: Entry) -> Check:
    """Return the check of ALTER ... OWNER TO the owner of an entry."""

    def check(parsed: Sequence[Any]) -> bool:
        statements = [type(node).__name__ for node in parsed]
        if statements == ["AlterOwnerStmt"]:
            return parsed[0].newowner.rolename == entry.owner and kinds.is_named(
                entry, nodes.names(parsed[0].object)
            )
        if statements != ["AlterTableStmt"] or not kinds.is_relation(entry, parsed[0].relation):
            return False
        [command] = parsed[0].cmds
        return (
            nodes.subtype(command) == "ChangeOwner"
            and command.alter_table_cmd.newowner.rolename == entry.owner
        )

    return check


def added_column(table: Entry, name: str, types: Mapping[tuple[str, ...], bool]) -> Check:
    """Return the check of ALTER TABLE ... ADD COLUMN that does not rewrite the table.

    `types` are those of the archive, by schema and name: whether they are without code of a user.
    """

    def check(parsed: Sequence[Any]) -> bool:
        if len(parsed) != 1 or type(parsed[0]).__name__ != "AlterTableStmt":
            return False
        commands = parsed[0].cmds
        if len(commands) != 1 or nodes.subtype(commands[0]) != "AddColumn":
            return False
        column = getattr(commands[0].alter_table_cmd, "def").column_def
        constraints = [each.constraint for each in column.constraints]
        return (
            kinds.is_relation(table, parsed[0].relation)
            and column.colname == name
            and {nodes.contype(each) for each in constraints} <= {"NOTNULL", "DEFAULT"}
            and all(_is_constant(each, types) for each in constraints)
            and _is_plain(column.type_name, types, unknown=not constraints)
        )

    return check


def _is_plain(
    type_name: Any, types: Mapping[tuple[str, ...], bool], *, unknown: bool = False
) -> bool:
    names = tuple(nodes.strings(type_name.names))
    # a column of a domain with a check rewrites its table; `earth` is that of an own extension
    return (len(names) == 1 or names[0] == "pg_catalog" or types.get(names, unknown)) and names[
        -1
    ] != "earth"


def _is_constant(constraint: Any, types: Mapping[tuple[str, ...], bool]) -> bool:
    """Return whether a default is the same for all rows, and runs no code of a user."""
    for node in nodes.walk(constraint.raw_expr) if constraint.HasField("raw_expr") else ():
        kind = type(node).__name__
        if kind == "FuncCall" and nodes.strings(node.funcname) != ["now"]:
            return False
        if kind == "TypeName" and not _is_plain(node, types):
            return False
        if kind in ("A_Expr", "SubLink", "ColumnRef", "NextValueExpr"):
            return False
    return True


def _has_variable(statement: str) -> bool:
    """Return whether psql would replace something: a colon before a name or a quote."""
    from postgast import pg_query_pb2 as pb
    from postgast import scan

    data = statement.encode()
    return any(
        token.token == pb.ASCII_58
        and re.match(rb"[\w'\"{\x80-\xff]", data[token.end :][:1])
        and not data[token.end : token.end + 1].isdigit()
        for token in scan(statement).tokens
    )


def _has_code(node: Any, *, builtin: bool = True) -> bool:
    """Return whether an expression has functions, operators or types that may be a user's.

    A check may have functions of the server which change something, unlike an index.
    """
    for each in nodes.walk(node):
        kind = type(each).__name__
        if kind == "FuncCall" and (not builtin or len(each.funcname) > 1):
            return True
        if kind == "A_Expr" and len(each.name) > 1:
            return True
        if (
            kind == "TypeName"
            and len(each.names) > 1
            and nodes.strings(each.names)[0] != "pg_catalog"
        ):
            return True
        if kind == "IndexElem" and len(each.opclass) > 1:
            return True
        if kind == "List" and len(nodes.strings(each.items)) > 1:  # OPERATOR(schema.=)
            return True
    return False


def _is_same(node: Any, definition: str) -> bool:
    """Return whether a function has the arguments of another definition of that name."""
    other = next((each.node for each in parser.parse(definition)), None)
    return type(node) is type(other) and _arguments(node) == _arguments(other)


def _arguments(node: Any) -> list[bytes]:
    """Return the types of what a function or an aggregate takes; none for all else."""
    if type(node).__name__ not in ("CreateFunctionStmt", "DefineStmt"):
        return []
    types = []
    for each in nodes.walk(node):
        if type(each).__name__ == "FunctionParameter" and _mode(each) not in ("OUT", "TABLE"):
            copy = type(each.arg_type)()
            copy.CopyFrom(each.arg_type)
            copy.location = 0
            types.append(copy.SerializeToString(deterministic=True))
    return types


def _mode(parameter: Any) -> str:
    from postgast import pg_query_pb2 as pb

    name: str = pb.FunctionParameterMode.Name(parameter.mode)
    return name.removeprefix("FUNC_PARAM_")


def _is_beside(entry: Entry, node: Any) -> bool:
    rule = kinds.BESIDE.get(entry.desc)
    return rule is not None and rule(entry, node)
