"""Compare the objects of two archives: what one side lacks, and how definitions differ."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgtasks.schema import printed as printed_form
from pgtasks.schema.inspect.diff import columns
from pgtasks.schema.inspect.diff.change import Change, only
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.schema.trigger import fingerprint
from pgtasks.server.proof import entries
from pgtasks.server.proof.entries import Access, Key
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import quoted

_GRANT = re.compile(r"GRANT ([A-Z ]+(?:,[A-Z ]+)*) ON (.*?);?")
_STATE = re.compile(r"\nALTER (?:FOREIGN )?TABLE [^;]* (\w+(?: \w+)?) TRIGGER [^;]*;?\s*\Z")
_STATES = {"DISABLE": "disabled", "ENABLE REPLICA": "on replicas only", "ENABLE ALWAYS": "always"}
_PUBLIC = ("SCHEMA", "", "public")  # which pg_dump lists only if it was changed
_HEAD = ("ENCODING", "STDSTRINGS", "SEARCHPATH")  # of each archive
# Kinds that belong to a table or another object, and what they are called where that one is
# missing, too: they are not named then.
_PARTS = {
    "CONSTRAINT": "keys",
    "CHECK CONSTRAINT": "checks",
    "FK CONSTRAINT": "foreign keys",
    "DEFAULT": "defaults",
    "INDEX": "indexes",
    "INDEX ATTACH": "indexes",
    "TABLE ATTACH": "place as a partition",
    "RULE": "rules",
    "TRIGGER": "triggers",
    "POLICY": "policies",
    "ROW SECURITY": "row level security",
    "MATERIALIZED VIEW DATA": "rows",
    "SEQUENCE": "sequences",
    "SEQUENCE OWNED BY": "sequences",
    "STATISTICS": "statistics",
    "ACL": "grants",
    "COMMENT": "comments",
    "SECURITY LABEL": "labels",
    "PUBLICATION TABLE": "publications",
}


@dataclass(frozen=True)
class Definitions:
    """The differences of the objects, how many are compared, and those whose text is not.

    `missing` are the keys that only the left side has, and only the right one.
    """

    changes: tuple[Change, ...]
    number: int
    printed: tuple[Key, ...]
    missing: tuple[Collection[Key], Collection[Key]]


def compare(left: Side, right: Side, access: Access) -> Definitions:
    """Compare the objects of two sides, by name, owner and definition.

    Servers of two majors print the same definition differently; such texts are only named.
    """
    archives = [tuple(fingerprint.unmarked(side.entries)) for side in (left, right)]
    texts = _by_key(archives[0]), _by_key(archives[1])
    same = {key for key, group in texts[0].items() if _raw(group) == _raw(texts[1].get(key, ()))}
    ours, theirs = (entries.schema(_without(same, archive), access) for archive in archives)
    differing = sorted(
        key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)
    )
    alike = (left.major, left.dumped_by) == (right.major, right.dumped_by)
    printed = set() if alike else set(entries.compare_across(theirs, ours).anew)
    sides = left.name, right.name
    missing = (
        [key for key in differing if key not in theirs and key not in printed],
        [key for key in differing if key not in ours and key not in printed],
    )
    changes = [
        *_missing(missing[0], texts[0], left.name),
        *_missing(missing[1], texts[1], right.name),
    ]
    for key in differing:
        if key not in ours or key not in theirs:
            continue
        groups = texts[0][key], texts[1][key]
        owners = _owners(key, ours, theirs, sides)
        known, words = (True, owners) if owners else _how(key, groups, sides, plain=alike)
        if known:
            printed.discard(key)
        if words:
            both = _text(groups[0]), _text(groups[1])
            changes.append(Change(entries.name(key), words, texts=both))
    return Definitions(
        tuple(sorted(changes, key=lambda change: change.name)),
        len(ours.keys() | theirs.keys()) + sum(key[0] not in _HEAD for key in same),
        tuple(sorted(printed)),
        missing,
    )


def _how(
    key: Key,
    groups: tuple[Sequence[Entry], Sequence[Entry]],
    sides: tuple[str, str],
    *,
    plain: bool,
) -> tuple[bool, str]:
    """Return whether it is known how two definitions differ, and the words for it."""
    both = _text(groups[0]), _text(groups[1])
    if _normal(key, both[0]) == _normal(key, both[1]):
        return True, _elsewhere(*groups)
    words = _words(key, both, sides, plain=plain)
    return bool(words), words


def _normal(key: Key, text: str) -> str | list[str]:
    """Return a definition in the form that is the same for all servers."""
    if key[0] in ("ACL", "DEFAULT ACL"):
        return sorted(privileges(text))
    return printed_form.normalized(key[0], text)


def _elsewhere(ours: Sequence[Entry], theirs: Sequence[Entry]) -> str:
    """Return how objects of the same definition differ: pg_dump keeps their place apart."""
    places = [[entry.rest[:2] for entry in group] for group in (ours, theirs)]
    return "" if places[0] == places[1] else "in another tablespace, or by another access method"


def _raw(group: Iterable[Entry]) -> list[tuple[str, bytes, bytes, tuple[str, ...]]]:
    """Return what pg_restore would use of these entries, to find equal ones fast."""
    return [(entry.owner, entry.definition, entry.copy, entry.rest) for entry in group]


def _without(keys: Collection[Key], archive: Iterable[Entry]) -> Iterator[Entry]:
    return (entry for entry in archive if (entry.desc, entry.namespace, entry.tag) not in keys)


def _by_key(archive: Iterable[Entry]) -> dict[Key, list[Entry]]:
    by_key: dict[Key, list[Entry]] = {}
    for entry in archive:
        by_key.setdefault((entry.desc, entry.namespace, entry.tag), []).append(entry)
    return by_key


def _text(group: Iterable[Entry]) -> str:
    return "\n".join(entry.definition.decode("utf-8", "backslashreplace") for entry in group)


def _missing(
    keys: Collection[Key], texts: Mapping[Key, list[Entry]], side: str
) -> Iterator[Change]:
    """Yield what one side alone has; the parts of an object are named with it."""
    by_number = {entry.number: key for key in keys for entry in texts[key]}
    parts: dict[Key, dict[str, None]] = {}
    for key in keys:
        whole = _whole(key, by_number, texts)
        parts.setdefault(whole, {})
        if whole != key:
            parts[whole][_PARTS[key[0]]] = None
    for whole, kinds in parts.items():
        if whole == _PUBLIC:
            yield Change(entries.name(whole), f"not as in a new database in {side}", side)
            continue
        yield only(entries.name(whole), side, f", with its {', '.join(kinds)}" if kinds else "")


def _whole(key: Key, by_number: Mapping[int, Key], texts: Mapping[Key, list[Entry]]) -> Key:
    """Return the missing object that a missing one is a part of, or the object itself."""
    if key[0] not in _PARTS:
        return key
    needed = sorted({number for entry in texts[key] for number in entry.needs})
    for other in (by_number[number] for number in needed if number in by_number):
        if key[0] == "FK CONSTRAINT" and other[1:] != (key[1], key[2].partition(" ")[0]):
            continue  # the table that it refers to
        if other[0] == "SCHEMA" and not key[2].startswith("SCHEMA "):
            continue  # a sequence of its own
        if other != key and (whole := _whole(other, by_number, texts))[0] not in _PARTS:
            return whole
    return key


def _owners(key: Key, ours: entries.Schema, theirs: entries.Schema, sides: tuple[str, str]) -> str:
    both = [sorted({owner for owner, _ in group[key]}) for group in (ours, theirs)]
    if both[0] == both[1]:
        return ""
    names = (
        f"{', '.join(map(quoted, owners))} in {side}"
        for owners, side in zip(both, sides, strict=True)
    )
    return f"belongs to {', to '.join(names)}"


def _words(key: Key, texts: tuple[str, str], sides: tuple[str, str], *, plain: bool) -> str:
    """Return how two definitions differ; empty if the texts are not `plain` and not parsed."""
    if key[0] in ("TABLE", "FOREIGN TABLE") and (found := columns.words(*texts, sides)):
        return found
    if key[0] == "TRIGGER" and (found := states(texts, sides)):
        return found
    if key[0] in ("ACL", "DEFAULT ACL"):
        return _grants(texts, sides)
    return "defined differently" if plain else ""


def states(texts: tuple[str, str], sides: tuple[str, str]) -> str:
    """Return the states of a trigger in two definitions, empty if they are the same."""
    both = [_state(text) for text in texts]
    if both[0] == both[1]:
        return ""
    return ", ".join(f"{state} in {side}" for state, side in zip(both, sides, strict=True))


def _state(text: str) -> str:
    found = _STATE.search(text)
    return _STATES.get(found[1], found[1].lower()) if found else "enabled"


def _grants(texts: tuple[str, str], sides: tuple[str, str]) -> str:
    ours, theirs = ({*privileges(text)} for text in texts)
    lines = [
        f"{line} only in {side}"
        for side, those in ((sides[0], ours - theirs), (sides[1], theirs - ours))
        for line in sorted(those)
    ]
    return "; ".join(lines)


def privileges(text: str) -> Iterator[str]:
    """Yield the statements of an ACL, without `;`, one for each privilege."""
    for line in filter(None, text.splitlines()):
        if found := _GRANT.fullmatch(line):
            yield from (f"GRANT {each} ON {found[2]}" for each in found[1].split(","))
        else:
            yield line.removesuffix(";")
