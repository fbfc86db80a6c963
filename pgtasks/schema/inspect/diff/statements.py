"""Which statements of an archive a script may have: for each kind of entry, those of pg_dump.

A backup is not trusted: its archive may contain any SQL, and commands of psql, in the place of a
definition. Each statement must be of a kind that pg_dump writes for the entry, and name the object
of the entry. What is not listed here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.server import parser
from pgtasks.server.parser import SyntaxFault
from pgtasks.server.proof.entries import Key
from pgtasks.server.proof.toc import Entry

Check = Callable[[Sequence[Any]], bool]
_Rule = Callable[[Entry, Any], bool]

TABLES = ("TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW")
_NO_CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")
_OTHERS = "its definition has other statements than pg_dump writes for it"
_WRITES = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")
# what all databases of a server share, and large objects
_SHARED = ("DATABASE", "ROLE", "TABLESPACE", "PARAMETER_ACL", "LARGEOBJECT", "SUBSCRIPTION")
# what pg_dump sets of a relation after it has created it
_ASIDE = (
    *("SetStatistics", "SetStorage", "SetCompression", "SetOptions", "SetNotNull"),
    *("ReplicaIdentity", "ForceRowSecurity", "ClusterOn", "AlterColumnGenericOptions"),
)
_TRIGGER_STATES = ("DisableTrig", "EnableTrig", "EnableAlwaysTrig", "EnableReplicaTrig")
_RULE_STATES = ("DisableRule", "EnableAlwaysRule", "EnableReplicaRule")


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

        def check(nodes: Sequence[Any]) -> bool:
            made = [self._makes(entry, node) for node in nodes]
            if sum(made) > 1 or not all(
                makes or _is_beside(entry, node) for makes, node in zip(made, nodes, strict=True)
            ):
                return False
            anew = [node for node in nodes if getattr(node, "replace", False)]
            if entry.desc == "RULE":  # pg_dump replaces a view that it created without its query
                return True
            return not anew or (bool(replaced) and _is_same(anew[0], replaced))

        return check

    def grant(self, entry: Entry) -> Check:
        """Return the check of one statement of an ACL entry."""
        return lambda nodes: len(nodes) == 1 and _grants(entry, nodes[0], self.is_of_new(entry))

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
        own = _OWN_MAKERS.get(entry.desc) if self.trusted else None
        rule = own or _MAKERS.get(entry.desc)
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
        nodes = [each.node for each in parser.parse(statement)]
        if _has_variable(statement):
            return "its definition has what psql would take for a variable"
    except SyntaxFault:
        return "its definition is no SQL that is known here"
    return "" if all(node is not None for node in nodes) and check(nodes) else _OTHERS


def owner(entry: Entry) -> Check:
    """Return the check of ALTER ... OWNER TO the owner of an entry."""

    def check(nodes: Sequence[Any]) -> bool:
        kinds = [type(node).__name__ for node in nodes]
        if kinds == ["AlterOwnerStmt"]:
            return nodes[0].newowner.rolename == entry.owner and _is_named(
                entry, _names(nodes[0].object)
            )
        if kinds != ["AlterTableStmt"] or not _is_relation(entry, nodes[0].relation):
            return False
        [command] = nodes[0].cmds
        return (
            _subtype(command) == "ChangeOwner"
            and command.alter_table_cmd.newowner.rolename == entry.owner
        )

    return check


def added_column(table: Entry, name: str, types: Mapping[tuple[str, ...], bool]) -> Check:
    """Return the check of ALTER TABLE ... ADD COLUMN that does not rewrite the table.

    `types` are those of the archive, by schema and name: whether they are without code of a user.
    """

    def check(nodes: Sequence[Any]) -> bool:
        if len(nodes) != 1 or type(nodes[0]).__name__ != "AlterTableStmt":
            return False
        commands = nodes[0].cmds
        if len(commands) != 1 or _subtype(commands[0]) != "AddColumn":
            return False
        column = getattr(commands[0].alter_table_cmd, "def").column_def
        constraints = [each.constraint for each in column.constraints]
        return (
            _is_relation(table, nodes[0].relation)
            and column.colname == name
            and {_contype(each) for each in constraints} <= {"NOTNULL", "DEFAULT"}
            and all(_is_constant(each, types) for each in constraints)
            and _is_plain(column.type_name, types, unknown=not constraints)
        )

    return check


def _is_plain(
    type_name: Any, types: Mapping[tuple[str, ...], bool], *, unknown: bool = False
) -> bool:
    names = tuple(_strings(type_name.names))
    # a column of a domain with a check rewrites its table; `earth` is that of an own extension
    return (len(names) == 1 or names[0] == "pg_catalog" or types.get(names, unknown)) and names[
        -1
    ] != "earth"


def _is_constant(constraint: Any, types: Mapping[tuple[str, ...], bool]) -> bool:
    """Return whether a default is the same for all rows, and runs no code of a user."""
    for node in _walk(constraint.raw_expr) if constraint.HasField("raw_expr") else ():
        kind = type(node).__name__
        if kind == "FuncCall" and _strings(node.funcname) != ["now"]:
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
    for each in _walk(node):
        kind = type(each).__name__
        if kind == "FuncCall" and (not builtin or len(each.funcname) > 1):
            return True
        if kind == "A_Expr" and len(each.name) > 1:
            return True
        if kind == "TypeName" and len(each.names) > 1 and _strings(each.names)[0] != "pg_catalog":
            return True
        if kind == "IndexElem" and len(each.opclass) > 1:
            return True
        if kind == "List" and len(_strings(each.items)) > 1:  # OPERATOR(schema.=)
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
    for each in _walk(node):
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


def _walk(node: Any) -> Iterator[Any]:
    from google.protobuf.message import Message

    yield node
    for _, value in node.ListFields():
        for each in value if isinstance(value, Sequence) else (value,):
            if isinstance(each, Message):
                yield from _walk(each)


def _strings(nodes: Any) -> list[str]:
    return [each.string.sval for each in nodes if each.HasField("string")]


def _names(node: Any) -> list[str]:
    """Return the name of an object, by its parts."""
    kind = node.WhichOneof("node") or "string"
    value: Any = getattr(node, kind)
    if kind == "range_var":
        return [value.schemaname, value.relname]
    if kind == "string":
        return [value.sval]
    fields = {"list": "items", "object_with_args": "objname", "type_name": "names"}
    if kind not in fields:
        return []
    parts = getattr(value, fields[kind])
    if kind == "list" and parts and parts[0].HasField("type_name"):  # of a constraint of a domain
        return [*_strings(parts[0].type_name.names), *_strings(parts[1:])]
    return _strings(parts)


def _subtype(command: Any) -> str:
    from postgast import pg_query_pb2 as pb

    name: str = pb.AlterTableType.Name(command.alter_table_cmd.subtype)
    return name.removeprefix("AT_")


def _contype(constraint: Any) -> str:
    from postgast import pg_query_pb2 as pb

    name: str = pb.ConstrType.Name(constraint.contype)
    return name.removeprefix("CONSTR_")


def _objtype(number: Any) -> str:
    from postgast import pg_query_pb2 as pb

    name: str = pb.ObjectType.Name(number)
    return name.removeprefix("OBJECT_")


def _is_relation(entry: Entry, relation: Any) -> bool:
    is_kept = relation.relpersistence in ("p", "u")
    return is_kept and (relation.catalogname, relation.schemaname, relation.relname) == (
        "",
        entry.namespace,
        entry.tag,
    )


def _is_part(entry: Entry, relation: Any, name: str) -> bool:
    """Return whether an entry, whose tag names its table and itself, has that name."""
    return bool(
        relation.schemaname == entry.namespace and f"{relation.relname} {name}" == entry.tag
    )


def _is_named(entry: Entry, names: Sequence[str]) -> bool:
    """Return whether an object has the name of the entry; the tag of a function has arguments."""
    if not names or (entry.namespace and names[0] != entry.namespace):
        return False
    name = names[-1]
    if entry.desc in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
        return len(names) == 2 and entry.tag.startswith(f"{name}(")
    return len(names) == (2 if entry.namespace else 1) and name == entry.tag


def _is(kind: str, rule: _Rule) -> _Rule:
    return lambda entry, node: type(node).__name__ == kind and rule(entry, node)


def _either(*rules: _Rule) -> _Rule:
    return lambda entry, node: any(rule(entry, node) for rule in rules)


def _alters(*subtypes: str) -> Callable[[_Rule], _Rule]:
    """Return a maker of rules for ALTER TABLE with one command of some kinds."""

    def made(rule: _Rule) -> _Rule:
        return _is(
            "AlterTableStmt",
            lambda entry, node: (
                len(node.cmds) == 1 and _subtype(node.cmds[0]) in subtypes and rule(entry, node)
            ),
        )

    return made


def _command(node: Any) -> Any:
    return node.cmds[0].alter_table_cmd


def _definition(node: Any) -> Any:
    return getattr(_command(node), "def")


def _only_reads(query: Any) -> bool:
    return query.WhichOneof("node") == "select_stmt" and not any(
        type(each).__name__ in (*_WRITES, "IntoClause") for each in _walk(query)
    )


def _table(entry: Entry, node: Any) -> bool:
    plain = not (node.if_not_exists or node.HasField("partbound"))
    return plain and _is_relation(entry, node.relation)


def _view(entry: Entry, node: Any) -> bool:
    return _is_relation(entry, node.view) and _only_reads(node.query)


def _matview(entry: Entry, node: Any) -> bool:
    plain = not (node.if_not_exists or node.is_select_into) and node.into.skip_data
    is_matview = _objtype(node.objtype) == "MATVIEW"
    return plain and is_matview and _is_relation(entry, node.into.rel) and _only_reads(node.query)


def _index(entry: Entry, node: Any) -> bool:
    named = node.idxname == entry.tag and node.relation.schemaname == entry.namespace
    return bool(named and not node.if_not_exists)


def _constraint(*kinds: str) -> _Rule:
    def rule(entry: Entry, node: Any) -> bool:
        constraint = _definition(node).constraint
        return (
            _contype(constraint) in kinds
            and not constraint.indexname
            and _is_part(entry, node.relation, constraint.conname)
        )

    return _alters("AddConstraint")(rule)


def _domain_constraint(entry: Entry, node: Any) -> bool:
    constraint = getattr(node, "def").constraint
    names = [*_strings(node.type_name), constraint.conname]
    return (
        node.subtype == "C" and names[:1] == [entry.namespace] and " ".join(names[1:]) == entry.tag
    )


def _identity(entry: Entry, node: Any) -> bool:
    options = _definition(node).constraint.options
    names = [
        _strings(each.def_elem.arg.list.items)
        for each in options
        if each.def_elem.defname == "sequence_name"
    ]
    return names == [[entry.namespace, entry.tag]] and node.relation.schemaname == entry.namespace


def _owned_by(entry: Entry, node: Any) -> bool:
    options = [each.def_elem.defname for each in node.options]
    return _is_relation(entry, node.sequence) and options == ["owned_by"]


def _attached(entry: Entry, node: Any) -> bool:
    return _is_relation(entry, _definition(node).partition_cmd.name)


def _schema(entry: Entry, node: Any) -> bool:
    return node.schemaname == entry.tag and not node.schema_elts and not node.HasField("authrole")


def _extension(entry: Entry, node: Any) -> bool:
    options = {each.def_elem.defname for each in node.options}
    return node.extname == entry.tag and options <= {"schema"}


def _comment(entry: Entry, node: Any) -> bool:
    names = _names(node.object)
    if not names or not node.comment or _objtype(node.objtype) in _SHARED:
        return False
    if entry.namespace:
        if names[0] != entry.namespace:
            return False
        names = names[1:]
    words = entry.tag.replace('"', "")
    plain = [each.replace('"', "") for each in names]
    if not plain:
        return False
    wanted = {".".join(plain), f"{plain[-1]} ON {'.'.join(plain[:-1])}"}
    wanted |= {f"{plain[-1]} ON DOMAIN {'.'.join(plain[:-1])}"}
    return any(words.endswith(f" {each}") for each in wanted) or f" {plain[-1]}(" in words


def _grants(entry: Entry, node: Any, new: bool) -> bool:
    if type(node).__name__ != "GrantStmt" or not (node.is_grant or new):
        return False
    if len(node.objects) != 1 or _objtype(node.objtype) in _SHARED:
        return False
    names = _names(node.objects[0])
    if entry.namespace and (len(names) != 2 or names[0] != entry.namespace):
        return False
    name = names[-1].replace('"', "") if names else ""
    kind, _, words = entry.tag.replace('"', "").partition(" ")
    if kind in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
        return words.startswith(f"{name}(")
    return (
        words == name
        or words.endswith(f" {name}")
        or (kind == "COLUMN" and words.startswith(f"{name}."))
    )


def _view_again(entry: Entry, node: Any) -> bool:
    named = _is_part(entry, node.view, "_RETURN")
    return named and node.replace and _only_reads(node.query)


def _is_beside(entry: Entry, node: Any) -> bool:
    rule = _BESIDE.get(entry.desc)
    return rule is not None and rule(entry, node)


_FUNCTION = _is("CreateFunctionStmt", lambda entry, node: _is_named(entry, _strings(node.funcname)))
_TYPE = _either(
    _is("CompositeTypeStmt", lambda entry, node: _is_relation(entry, node.typevar)),
    _is("CreateEnumStmt", lambda entry, node: _is_named(entry, _strings(node.type_name))),
    _is("CreateRangeStmt", lambda entry, node: _is_named(entry, _strings(node.type_name))),
)


def _define(kind: str) -> _Rule:
    return _is(
        "DefineStmt",
        lambda entry, node: (
            _objtype(node.kind) == kind
            and not node.if_not_exists
            and _is_named(entry, _strings(node.defnames))
        ),
    )


def _simple(kind: str, field: str) -> _Rule:
    """Return the rule for a statement whose name is one word."""
    return _is(kind, lambda entry, node: getattr(node, field) == entry.tag)


_MAKERS: dict[str, _Rule] = {
    "TABLE": _is("CreateStmt", _table),
    "VIEW": _is("ViewStmt", _view),
    "MATERIALIZED VIEW": _is("CreateTableAsStmt", _matview),
    "FUNCTION": _FUNCTION,
    "PROCEDURE": _FUNCTION,
    "AGGREGATE": _define("AGGREGATE"),
    "INDEX": _is("IndexStmt", _index),
    "INDEX ATTACH": _alters("AttachPartition")(_attached),
    "TABLE ATTACH": _alters("AttachPartition")(_attached),
    "CONSTRAINT": _constraint("PRIMARY", "UNIQUE", "EXCLUSION", "NOTNULL"),
    "CHECK CONSTRAINT": _either(_constraint("CHECK"), _is("AlterDomainStmt", _domain_constraint)),
    "FK CONSTRAINT": _constraint("FOREIGN"),
    "DEFAULT": _alters("ColumnDefault")(
        lambda entry, node: (
            _is_part(entry, node.relation, _command(node).name) and _command(node).HasField("def")
        )
    ),
    "TRIGGER": _is(
        "CreateTrigStmt", lambda entry, node: _is_part(entry, node.relation, node.trigname)
    ),
    "RULE": _is(
        "RuleStmt",
        lambda entry, node: (
            _is_part(entry, node.relation, node.rulename) and node.rulename != "_RETURN"
        ),
    ),
    "POLICY": _is(
        "CreatePolicyStmt", lambda entry, node: _is_part(entry, node.table, node.policy_name)
    ),
    "ROW SECURITY": _alters("EnableRowSecurity")(
        lambda entry, node: _is_relation(entry, node.relation)
    ),
    "STATISTICS": _is(
        "CreateStatsStmt", lambda entry, node: _is_named(entry, _strings(node.defnames))
    ),
    "SEQUENCE": _either(
        _is("CreateSeqStmt", lambda entry, node: _is_relation(entry, node.sequence)),
        _alters("AddIdentity")(_identity),
    ),
    "SEQUENCE OWNED BY": _is("AlterSeqStmt", _owned_by),
    "TYPE": _TYPE,
    "DOMAIN": _is(
        "CreateDomainStmt", lambda entry, node: _is_named(entry, _strings(node.domainname))
    ),
    "EXTENSION": _is("CreateExtensionStmt", _extension),
    "SCHEMA": _is("CreateSchemaStmt", _schema),
    "COMMENT": _is("CommentStmt", _comment),
    "DEFAULT ACL": _is("AlterDefaultPrivilegesStmt", lambda _, node: node.action.is_grant),
    "COLLATION": _define("COLLATION"),
    "PUBLICATION": _simple("CreatePublicationStmt", "pubname"),
}
# Kinds that may run code as soon as they are made: of another database of the same people only.
_OWN_MAKERS: dict[str, _Rule] = {
    "MATERIALIZED VIEW DATA": _is(
        "RefreshMatViewStmt", lambda entry, node: _is_relation(entry, node.relation)
    ),
    "SHELL TYPE": _define("TYPE"),
    "FOREIGN DATA WRAPPER": _simple("CreateFdwStmt", "fdwname"),
    "SERVER": _simple("CreateForeignServerStmt", "servername"),
    "FOREIGN TABLE": _is(
        "CreateForeignTableStmt", lambda entry, node: _table(entry, node.base_stmt)
    ),
    "EVENT TRIGGER": _simple("CreateEventTrigStmt", "trigname"),
    "PUBLICATION TABLE": _is(
        "AlterPublicationStmt", lambda entry, node: entry.tag.startswith(f"{node.pubname} ")
    ),
    "TEXT SEARCH CONFIGURATION": _define("TSCONFIGURATION"),
    "TEXT SEARCH DICTIONARY": _define("TSDICTIONARY"),
    "OPERATOR": _define("OPERATOR"),
    "CAST": _is("CreateCastStmt", lambda *_: True),
    "RULE": _either(_MAKERS["RULE"], _is("ViewStmt", _view_again)),
    "TYPE": _either(_TYPE, _define("TYPE")),
}
_RELATION_BESIDE = _alters(*_ASIDE)(lambda entry, node: _is_relation(entry, node.relation))
# of the index itself, or of its table, which must be in the schema of the index
_INDEX_BESIDE = _alters("SetStatistics", "ClusterOn", "ReplicaIdentity")(
    lambda entry, node: (
        _is_relation(entry, node.relation)
        or entry.tag.split(" ")[-1]
        in (_command(node).name, _definition(node).replica_identity_stmt.name)
    )
)
_BESIDE: dict[str, _Rule] = {
    "TABLE": _RELATION_BESIDE,
    "FOREIGN TABLE": _RELATION_BESIDE,
    "MATERIALIZED VIEW": _RELATION_BESIDE,
    "INDEX": _INDEX_BESIDE,
    "CONSTRAINT": _INDEX_BESIDE,
    "TRIGGER": _alters(*_TRIGGER_STATES)(
        lambda entry, node: _is_part(entry, node.relation, _command(node).name)
    ),
    "RULE": _alters(*_RULE_STATES)(
        lambda entry, node: _is_part(entry, node.relation, _command(node).name)
    ),
    "STATISTICS": _is(
        "AlterStatsStmt", lambda entry, node: _is_named(entry, _strings(node.defnames))
    ),
    "EVENT TRIGGER": _simple("AlterEventTrigStmt", "trigname"),
    "TEXT SEARCH CONFIGURATION": _is(
        "AlterTSConfigurationStmt", lambda entry, node: _is_named(entry, _strings(node.cfgname))
    ),
}
