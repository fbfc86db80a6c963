"""Read YAML files strictly: unique keys, each with its line, and plain values.

YAML 1.1 reads `0123` as 83, `12:30` as 750 and `no:` as a boolean key, and silently keeps the last
of two equal keys. Here numbers are decimal, booleans are `true` or `false`, and keys are text. JSON
files are read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pgtasks.errors import BadConfiguration

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, if PyYAML has it


LARGEST = 1 << 20  # bytes of a file of settings or variables
MOST = 20_000  # values in it
_DEEPEST = 50  # blocks within blocks


class _Size(NamedTuple):
    values: int
    depth: int


class Mapping(dict[str, Any]):
    """A mapping of a YAML file that knows the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class _Loader(_Base):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _fault(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)


def _construct_mapping(loader: Any, node: yaml.MappingNode) -> Mapping:
    seen: set[str] = set()
    for key, _ in node.value:
        # keys merged by `<<` may be overridden
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                raise _fault(key, f"key {key.value!r} occurs twice")
            seen.add(key.value)
    loader.flatten_mapping(node)
    result = Mapping()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            scalar = isinstance(key_node, yaml.ScalarNode)
            shown = f"key {key_node.value!r}" if scalar else "a key"
            raise _fault(key_node, f"{shown} is not text, quote it")
        result[key] = loader.construct_object(value_node, deep=True)
        result.lines[key] = key_node.start_mark.line + 1
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def parse(text: str, name: str) -> Mapping:
    """Parse the text of the file called `name`, raising BadConfiguration with the line."""
    try:
        loaded = _load(text)
    except yaml.MarkedYAMLError as exc:
        position = exc.problem_mark or exc.context_mark
        line = f":{position.line + 1}" if position else ""
        raise BadConfiguration(f"{name}{line}: {exc.problem or exc.context}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise BadConfiguration(f"{name}: {' '.join(str(exc).split())}") from None
    except RecursionError:
        raise BadConfiguration(f"{name}: nested too deep") from None
    return _mapping(loaded, name)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, _Size | None], depth: int) -> _Size:
    """Return the number of values and the depth of a node, raising if either is too large.

    Each alias counts as all its values, because nested aliases grow exponentially.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise _fault(node, "an alias contains itself")
        return size
    known[id(node)] = None
    below = [_measure(each, known, depth + 1) for each in _parts(node, depth)]
    size = _Size(
        1 + sum(child.values for child in below), 1 + max((s.depth for s in below), default=0)
    )
    if size.values > MOST:
        raise _fault(node, f"more than {MOST:,} values, those of aliases counted each time")
    if size.depth > _DEEPEST:
        raise _fault(node, "nested too deep")
    known[id(node)] = size
    return size


def _parts(node: yaml.Node, depth: int) -> list[yaml.Node]:
    if isinstance(node, yaml.ScalarNode):
        return []
    if depth > _DEEPEST:
        raise _fault(node, "nested too deep")
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _parse_json(text: str, name: str) -> Mapping:
    try:
        if text.count(",") + text.count(":") > 2 * MOST:
            raise ValueError(f"more than {MOST:,} values")
        loaded = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as exc:
        raise BadConfiguration(f"{name}:{exc.lineno}: {exc.msg}") from None
    except ValueError as exc:
        raise BadConfiguration(f"{name}: {exc}") from None
    except RecursionError:
        raise BadConfiguration(f"{name}: nested too deep") from None
    return _mapping(loaded, name)


def _pairs(pairs: Iterable[tuple[str, Any]]) -> Mapping:
    result = Mapping()
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} occurs twice")
        result[key] = value
    return result


def _mapping(loaded: Any, name: str) -> Mapping:
    if loaded is None:
        return Mapping()
    if not isinstance(loaded, Mapping):
        raise BadConfiguration(f"{name}: expected keys with values, found {type(loaded).__name__}")
    return loaded


def text_of(path: Path, name: str) -> str:
    """Return the text of a file of settings or variables, raising BadConfiguration."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as exc:
        raise BadConfiguration(f"{name}: {exc.strerror or exc}") from None
    if len(content) > LARGEST:
        raise BadConfiguration(f"{name}: larger than {LARGEST:,} bytes")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise BadConfiguration(f"{name}: not UTF-8 text") from None


def read(path: Path, name: str) -> Mapping:
    """Read one file, raising BadConfiguration if it cannot be read."""
    text = text_of(path, name)
    return _parse_json(text, name) if path.suffix == ".json" else parse(text, name)
