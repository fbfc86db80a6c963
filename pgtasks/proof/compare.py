"""Compare two proofs: differences in sentences, and what could not be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgtasks.names import quoted
from pgtasks.proof.model import EXPRESSIONS, Proof, TableProof
from pgtasks.report import count, plural


@dataclass(frozen=True)
class Comparison:
    """How two proofs differ. `skipped` names what was not compared, and why.

    `tables` and `rows` are those of the proof that was expected, `identical_tables` how many of
    them were found to be the same.
    """

    differences: tuple[str, ...]
    skipped: tuple[str, ...]
    tables: int
    identical_tables: int
    rows: int

    @property
    def identical(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.differences

    def __str__(self) -> str:
        return (
            f"{count(self.identical_tables)} of {plural(self.tables, 'table')} identical, "
            f"{plural(self.rows, 'row')}"
        )


def compare(expected: Proof, actual: Proof, *, access: bool = True) -> Comparison:
    """Compare what a database should hold with what it holds.

    Expressions (defaults, checks, views, ...) are compared only within one major version, because
    servers print them differently; `access=False` leaves out owners and privileges (a restore
    with --no-owner). What `expected` names as unproven is not compared.
    """
    differences = (
        *_tables(expected, actual),
        *_large_objects(expected, actual),
        *_sequences(expected, actual),
        *_extensions(expected, actual),
        *_objects(expected, actual, access=access),
    )
    return Comparison(
        # a table that is missing is so among the tables and among the schema's objects
        differences=tuple(dict.fromkeys(differences)),
        skipped=tuple(_skipped(expected, actual, access=access)),
        tables=len(expected.tables),
        identical_tables=_identical_tables(expected, actual),
        rows=expected.rows,
    )


def _unproven(*proofs: Proof) -> set[str]:
    return {item.object for proof in proofs for item in proof.unproven}


def _identical_tables(expected: Proof, actual: Proof) -> int:
    return len(set(expected.tables) & set(actual.tables))


def _tables(expected: Proof, actual: Proof) -> Iterator[str]:
    there = {str(table): table for table in actual.tables}
    wanted = {str(table): table for table in expected.tables}
    failed = {item.object: item.reason for item in actual.unproven}
    others = _of_another_version(expected, actual)
    for name, table in wanted.items():
        if name in others:
            continue
        if name in there:
            yield from _table(f"table {name}", table, there[name])
        elif f"table {name}" in failed:
            yield f"table {name} could not be read: {failed[f'table {name}']}"
        else:
            yield f"table {name} is missing"
    unproven = _unproven(expected)
    for name in there.keys() - wanted.keys():
        if expected.tables and f"table {name}" not in unproven:
            yield f"table {name} should not be there"


def _table(name: str, wanted: TableProof, found: TableProof) -> Iterator[str]:
    if wanted.rows != found.rows:
        yield f"{name}: {plural(wanted.rows, 'row')} expected, {count(found.rows)} found"
    elif wanted.fingerprint != found.fingerprint:
        yield f"{name}: {plural(wanted.rows, 'row')} as expected, but their content differs"


def _of_another_version(expected: Proof, actual: Proof) -> dict[str, str]:
    """Return tables that an extension makes whose version is not the expected one."""
    versions = [proof.extensions for proof in (expected, actual)]
    return {
        table: extension
        for table, extension in expected.of_extensions.items()
        if extension in versions[1] and versions[0].get(extension) != versions[1][extension]
    }


def _computed(expected: Proof, actual: Proof) -> Iterator[str]:
    for table, columns in expected.computed.items():
        there = actual.computed.get(table, {})
        for column, fingerprint in columns.items():
            if there.get(column, fingerprint) != fingerprint:
                yield (
                    f"generated column {table}.{quoted(column)}: computed anew, "
                    "and not all of its values are those that the source had"
                )


def _large_objects(expected: Proof, actual: Proof) -> Iterator[str]:
    if "large objects" in _unproven(expected):
        return
    nothing = TableProof("", "", 0, "0")
    wanted, found = expected.large_objects or nothing, actual.large_objects or nothing
    if expected.large_objects or (expected.tables and actual.large_objects):
        yield from _table("large objects", wanted, found)


def _sequences(expected: Proof, actual: Proof) -> Iterator[str]:
    there = {str(sequence): sequence for sequence in actual.sequences}
    for sequence in expected.sequences:
        found = there.get(str(sequence))
        if found is None:
            yield f"sequence {sequence} is missing"
        elif found != sequence:
            yield (
                f"sequence {sequence}: {_stands(sequence.value, sequence.called)} expected, "
                f"{_stands(found.value, found.called)} found"
            )


def _stands(value: int, called: bool) -> str:
    return f"{value} ({'handed out' if called else 'not yet handed out'})"


def _extensions(expected: Proof, actual: Proof) -> Iterator[str]:
    for name in sorted(expected.extensions.keys() - actual.extensions.keys()):
        yield f"extension {name} is missing"
    for name in sorted(actual.extensions.keys() - expected.extensions.keys()):
        yield f"extension {name} should not be there"


def _objects(expected: Proof, actual: Proof, *, access: bool) -> Iterator[str]:
    unproven = _unproven(expected, actual)
    same_major = expected.major == actual.major
    expressions = same_major and EXPRESSIONS not in unproven
    for name, wanted in expected.schema.items():
        found = actual.schema.get(name)
        if name in unproven or (not access and _is_access(name)):
            continue
        if found is None:
            yield f"{name} is missing"
        elif wanted.facts != found.facts:
            yield f"{name} is defined differently"
        elif expressions and wanted.expressions != found.expressions:
            yield f"{name} has another expression or definition"
        elif access and wanted.access != found.access and (same_major or name != _PUBLIC):
            yield f"{name} has another owner or other privileges"
    for name in actual.schema.keys() - expected.schema.keys():
        if name not in unproven and (access or not _is_access(name)):
            yield f"{name} should not be there"


# PostgreSQL 15 gave it another owner and other privileges
_PUBLIC = "schema public"


def _is_access(name: str) -> bool:
    return name.startswith("default privileges ")


def _skipped(expected: Proof, actual: Proof, *, access: bool) -> Iterator[str]:
    yield from _computed(expected, actual)
    for table, extension in _of_another_version(expected, actual).items():
        yield f"table {table}: extension {extension} has another version"
    if expected.major != actual.major:
        yield (
            f"expressions (defaults, checks, views, indexes, triggers): servers {expected.major} "
            f"and {actual.major} print them differently"
        )
    if not access:
        yield "owners and privileges: they were not restored"
    for name, version in sorted(expected.extensions.items()):
        found = actual.extensions.get(name, version)
        if found != version:
            yield f"extension {name}: version {version} expected, {found} found"
