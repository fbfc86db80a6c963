"""Entities that outlive their session: copies without one, and plain data for JSON."""

from __future__ import annotations

import base64
import copy as copying
import datetime
import enum
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from sqlalchemy import inspect
from sqlalchemy.ext.mutable import Mutable
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus, PassiveFlag

from pgtasks.errors import Failed, Refused

Entity = TypeVar("Entity")

_SECRET = "secret"  # nosec B105: the key in a column's `info` that says so
_SECRET_NAMES = ("password", "secret")


class NotLoaded(Failed):
    """An attribute of a copy was not loaded while the session was open."""


class _Unloaded:
    """In place of the loader of an attribute of a copy, which has no session to load from."""

    def __init__(self, entity: str, key: str, *, is_relationship: bool) -> None:
        self._entity, self._key, self._is_relationship = entity, key, is_relationship

    def __call__(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        if state.session is not None:  # it was added to one, or merged
            del state.callables[self._key]
            return state.manager[self._key].impl.get(state, state.dict, passive)
        if not passive & PassiveFlag.SQL_OK:
            return LoaderCallableStatus.PASSIVE_NO_RESULT
        what = f"{self._entity}.{self._key}"
        way = "selectinload" if self._is_relationship else "undefer"
        raise NotLoaded(
            f"{what} was not loaded before the copy was taken: query with options({way}({what}))"
        )


def detached_copy(entity: Entity) -> Entity:
    """Return a copy without a session: the loaded columns, and the entities that are loaded.

    What refers back to an entity refers to its copy. Expired columns are loaded first. Reading an
    attribute that is not loaded raises NotLoaded, with its name and the way out.
    """
    _checked(entity)
    return _copied(entity, {})


def _checked(entity: object) -> Mapper[Any]:
    """Return the mapper of an entity, raising Refused for what is none."""
    state = inspect(entity, raiseerr=False)
    if not isinstance(state, InstanceState):
        raise Refused(f"expected an entity of a model, got {type(entity).__name__}")
    return state.mapper


def _copied(entity: Entity, copies: dict[int, Any]) -> Entity:
    if id(entity) in copies:
        known: Entity = copies[id(entity)]
        return known
    state: InstanceState[Any] = instance_state(entity)
    mapper: Mapper[Any] = state.mapper
    copy = mapper.class_manager.new_instance()
    copies[id(entity)] = copy
    copied: InstanceState[Any] = instance_state(copy)
    copied.key = state.key
    copied.callables = unloaded = {}
    _refresh(entity, state)
    for attribute in mapper.attrs:
        key = attribute.key
        if key in state.dict and key in mapper.relationships:
            set_committed_value(copy, key, _related(state.dict[key], copies))
        elif key in state.dict:
            set_committed_value(copy, key, _own(state.dict[key]))
        elif (above := _known(state, key, copies)) is not None:
            set_committed_value(copy, key, above)
        elif key not in mapper.synonyms:
            unloaded[key] = _Unloaded(
                mapper.class_.__name__, key, is_relationship=key in mapper.relationships
            )
    return copy  # type: ignore[no-any-return]


def _own(value: Any) -> Any:
    """Return the value of a column for a copy; one that can be changed is copied too.

    A change of SQLAlchemy's MutableDict would be written by the session of its entity.
    """
    is_mutable = isinstance(value, (dict, list, set, bytearray, Mutable))
    return copying.deepcopy(value) if is_mutable else value


def _known(state: InstanceState[Any], key: str, copies: dict[int, Any]) -> Any:
    """Return the copy that an attribute refers back to, None if there is none yet.

    A collection that is loaded does not set the other side, which needs no query in a session.
    """
    relationship = state.mapper.relationships.get(key)
    if relationship is None or relationship.uselist or state.session is None:
        return None
    value = state.manager[key].impl.get(state, state.dict, PassiveFlag.PASSIVE_NO_FETCH)
    return copies.get(id(value))


def _refresh(entity: object, state: InstanceState[Any]) -> None:
    """Load the columns that are expired."""
    columns = state.mapper.column_attrs.keys()
    expired = [key for key in columns if key in state.expired_attributes]
    if expired and state.session is None:
        name = f"{state.mapper.class_.__name__}.{expired[0]}"
        raise NotLoaded(f"{name} is expired and its session is closed: take the copy before that")
    for key in expired:
        getattr(entity, key)


def _related(value: Any, copies: dict[int, Any]) -> Any:
    """Return the copy of a relationship's value: an entity, a collection of them, or None."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: _copied(inner, copies) for key, inner in value.items()}
    if isinstance(value, (list, set)):
        inner = (_copied(one, copies) for one in value)
        return set(inner) if isinstance(value, set) else list(inner)
    return _copied(value, copies)


def entity_dict(
    entity: object,
    *,
    exclude: Collection[str] = (),
    include: Collection[str] = (),
    relations: bool = False,
) -> dict[str, Any]:
    """Return the loaded columns of an entity as values that JSON has.

    Columns that the model marks with `info={"secret": True}`, and those with "password" or
    "secret" in their name, are left out unless `include` names them. `relations` adds the entities
    that are loaded, each once: what refers back to one is left out. Raises Refused for a name that
    no column has.
    """
    mapper = _checked(entity)
    mappers = mapper.registry.mappers if relations else (mapper,)
    known = {key for each in mappers for key in each.attrs.keys()}  # noqa: SIM118
    for name in (*exclude, *include):
        if name not in known:
            own = ", ".join(mapper.column_attrs.keys())
            raise Refused(f"{mapper.class_.__name__} has no column {name!r}, known: {own}")
    return _dict(entity, exclude, include, relations, above=())


def _dict(
    entity: Any,
    exclude: Collection[str],
    include: Collection[str],
    relations: bool,
    above: tuple[object, ...],
) -> dict[str, Any]:
    state: InstanceState[Any] = instance_state(entity)
    _refresh(entity, state)
    mapper = state.mapper
    result: dict[str, Any] = {}
    for attribute in mapper.column_attrs:
        key = attribute.key
        hidden = key in exclude or (_is_secret(key, attribute.columns) and key not in include)
        if key in state.dict and not hidden:
            result[key] = plain(state.dict[key])
    above = (*above, entity)
    for relationship in mapper.relationships if relations else ():
        key = relationship.key
        if key in state.dict and key not in exclude:
            value = state.dict[key]
            inner = [one for one in _entities(value) if not any(one is known for known in above)]
            dicts = [_dict(one, exclude, include, relations, above) for one in inner]
            if relationship.uselist:
                result[key] = dicts
            elif value is None or dicts:
                result[key] = dicts[0] if dicts else None
    return result


def _entities(value: Any) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (list, set)):
        return value
    return () if value is None else (value,)


def _is_secret(key: str, columns: Collection[Any]) -> bool:
    marks = [column.info[_SECRET] for column in columns if _SECRET in getattr(column, "info", {})]
    if marks:
        return bool(marks[0])
    names = (key, *(getattr(column, "name", None) or "" for column in columns))
    return any(word in name.lower() for name in names for word in _SECRET_NAMES)


def plain(value: Any) -> Any:
    """Return a column's value as JSON has it: exact numbers, times and identifiers as text."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    return str(value)  # a UUID, a number that is exact, an address, a range
