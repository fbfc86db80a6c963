"""The statements that pg_dump writes for each kind of entry, about the object of the entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pgtasks.server.dump import nodes
from pgtasks.server.proof.toc import Entry

_Rule = Callable[[Entry, Any], bool]

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


def is_relation(entry: Entry, relation: Any) -> bool:
    """Return whether a relation has the name of the entry."""
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


def is_named(entry: Entry, names: Sequence[str]) -> bool:
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
                len(node.cmds) == 1
                and nodes.subtype(node.cmds[0]) in subtypes
                and rule(entry, node)
            ),
        )

    return made


def _command(node: Any) -> Any:
    return node.cmds[0].alter_table_cmd


def _definition(node: Any) -> Any:
    return getattr(_command(node), "def")


def _only_reads(query: Any) -> bool:
    return query.WhichOneof("node") == "select_stmt" and not any(
        type(each).__name__ in (*_WRITES, "IntoClause") for each in nodes.walk(query)
    )


def _table(entry: Entry, node: Any) -> bool:
    plain = not (node.if_not_exists or node.HasField("partbound"))
    return plain and is_relation(entry, node.relation)


def _view(entry: Entry, node: Any) -> bool:
    return is_relation(entry, node.view) and _only_reads(node.query)


def _matview(entry: Entry, node: Any) -> bool:
    plain = not (node.if_not_exists or node.is_select_into) and node.into.skip_data
    is_matview = nodes.objtype(node.objtype) == "MATVIEW"
    return plain and is_matview and is_relation(entry, node.into.rel) and _only_reads(node.query)


def _index(entry: Entry, node: Any) -> bool:
    named = node.idxname == entry.tag and node.relation.schemaname == entry.namespace
    return bool(named and not node.if_not_exists)


def _constraint(*kinds: str) -> _Rule:
    def rule(entry: Entry, node: Any) -> bool:
        constraint = _definition(node).constraint
        return (
            nodes.contype(constraint) in kinds
            and not constraint.indexname
            and _is_part(entry, node.relation, constraint.conname)
        )

    return _alters("AddConstraint")(rule)


def _domain_constraint(entry: Entry, node: Any) -> bool:
    constraint = getattr(node, "def").constraint
    names = [*nodes.strings(node.type_name), constraint.conname]
    return (
        node.subtype == "C" and names[:1] == [entry.namespace] and " ".join(names[1:]) == entry.tag
    )


def _identity(entry: Entry, node: Any) -> bool:
    options = _definition(node).constraint.options
    names = [
        nodes.strings(each.def_elem.arg.list.items)
        for each in options
        if each.def_elem.defname == "sequence_name"
    ]
    return names == [[entry.namespace, entry.tag]] and node.relation.schemaname == entry.namespace


def _owned_by(entry: Entry, node: Any) -> bool:
    options = [each.def_elem.defname for each in node.options]
    return is_relation(entry, node.sequence) and options == ["owned_by"]


def _attached(entry: Entry, node: Any) -> bool:
    return is_relation(entry, _definition(node).partition_cmd.name)


def _schema(entry: Entry, node: Any) -> bool:
    return node.schemaname == entry.tag and not node.schema_elts and not node.HasField("authrole")


def _extension(entry: Entry, node: Any) -> bool:
    options = {each.def_elem.defname for each in node.options}
    return node.extname == entry.tag and options <= {"schema"}


def _comment(entry: Entry, node: Any) -> bool:
    names = nodes.names(node.object)
    if not names or not node.comment or nodes.objtype(node.objtype) in _SHARED:
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


def grants(entry: Entry, node: Any, new: bool) -> bool:
    """Return whether a statement grants on the object of an ACL, or revokes on a `new` one."""
    if type(node).__name__ != "GrantStmt" or not (node.is_grant or new):
        return False
    if len(node.objects) != 1 or nodes.objtype(node.objtype) in _SHARED:
        return False
    names = nodes.names(node.objects[0])
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


_FUNCTION = _is(
    "CreateFunctionStmt", lambda entry, node: is_named(entry, nodes.strings(node.funcname))
)
_TYPE = _either(
    _is("CompositeTypeStmt", lambda entry, node: is_relation(entry, node.typevar)),
    _is("CreateEnumStmt", lambda entry, node: is_named(entry, nodes.strings(node.type_name))),
    _is("CreateRangeStmt", lambda entry, node: is_named(entry, nodes.strings(node.type_name))),
)


def _define(kind: str) -> _Rule:
    return _is(
        "DefineStmt",
        lambda entry, node: (
            nodes.objtype(node.kind) == kind
            and not node.if_not_exists
            and is_named(entry, nodes.strings(node.defnames))
        ),
    )


def _simple(kind: str, field: str) -> _Rule:
    """Return the rule for a statement whose name is one word."""
    return _is(kind, lambda entry, node: getattr(node, field) == entry.tag)


MAKERS: dict[str, _Rule] = {
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
        lambda entry, node: is_relation(entry, node.relation)
    ),
    "STATISTICS": _is(
        "CreateStatsStmt", lambda entry, node: is_named(entry, nodes.strings(node.defnames))
    ),
    "SEQUENCE": _either(
        _is("CreateSeqStmt", lambda entry, node: is_relation(entry, node.sequence)),
        _alters("AddIdentity")(_identity),
    ),
    "SEQUENCE OWNED BY": _is("AlterSeqStmt", _owned_by),
    "TYPE": _TYPE,
    "DOMAIN": _is(
        "CreateDomainStmt", lambda entry, node: is_named(entry, nodes.strings(node.domainname))
    ),
    "EXTENSION": _is("CreateExtensionStmt", _extension),
    "SCHEMA": _is("CreateSchemaStmt", _schema),
    "COMMENT": _is("CommentStmt", _comment),
    "DEFAULT ACL": _is("AlterDefaultPrivilegesStmt", lambda _, node: node.action.is_grant),
    "COLLATION": _define("COLLATION"),
    "PUBLICATION": _simple("CreatePublicationStmt", "pubname"),
}
# Kinds that may run code as soon as they are made: of another database of the same people only.
OWN_MAKERS: dict[str, _Rule] = {
    "MATERIALIZED VIEW DATA": _is(
        "RefreshMatViewStmt", lambda entry, node: is_relation(entry, node.relation)
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
    "RULE": _either(MAKERS["RULE"], _is("ViewStmt", _view_again)),
    "TYPE": _either(_TYPE, _define("TYPE")),
}
_RELATION_BESIDE = _alters(*_ASIDE)(lambda entry, node: is_relation(entry, node.relation))
# of the index itself, or of its table, which must be in the schema of the index
_INDEX_BESIDE = _alters("SetStatistics", "ClusterOn", "ReplicaIdentity")(
    lambda entry, node: (
        is_relation(entry, node.relation)
        or entry.tag.split(" ")[-1]
        in (_command(node).name, _definition(node).replica_identity_stmt.name)
    )
)
BESIDE: dict[str, _Rule] = {
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
        "AlterStatsStmt", lambda entry, node: is_named(entry, nodes.strings(node.defnames))
    ),
    "EVENT TRIGGER": _simple("AlterEventTrigStmt", "trigname"),
    "TEXT SEARCH CONFIGURATION": _is(
        "AlterTSConfigurationStmt", lambda entry, node: is_named(entry, nodes.strings(node.cfgname))
    ),
}
