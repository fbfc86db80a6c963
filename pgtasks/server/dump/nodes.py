"""Read nodes of PostgreSQL's parser: names, and words for their kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def walk(node: Any) -> Iterator[Any]:
    """Yield a node and all inside of it."""
    from google.protobuf.message import Message

    yield node
    for _, value in node.ListFields():
        for each in value if isinstance(value, Sequence) else (value,):
            if isinstance(each, Message):
                yield from walk(each)


def strings(nodes: Any) -> list[str]:
    """Return the texts of those nodes that are texts."""
    return [each.string.sval for each in nodes if each.HasField("string")]


def names(node: Any) -> list[str]:
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
        return [*strings(parts[0].type_name.names), *strings(parts[1:])]
    return strings(parts)


def subtype(command: Any) -> str:
    """Return the kind of a command of ALTER TABLE."""
    from postgast import pg_query_pb2 as pb

    name: str = pb.AlterTableType.Name(command.alter_table_cmd.subtype)
    return name.removeprefix("AT_")


def contype(constraint: Any) -> str:
    """Return the kind of a constraint."""
    from postgast import pg_query_pb2 as pb

    name: str = pb.ConstrType.Name(constraint.contype)
    return name.removeprefix("CONSTR_")


def objtype(number: Any) -> str:
    """Return the kind of an object."""
    from postgast import pg_query_pb2 as pb

    name: str = pb.ObjectType.Name(number)
    return name.removeprefix("OBJECT_")
