"""Compare two proofs: differences by name, and what was not compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from pgtasks.report import count, plural
from pgtasks.server.proof.difference import Difference
from pgtasks.server.proof.model import Proof, TableProof
from pgtasks.server.quoting import quoted


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two proofs. `skipped` names what was not compared, and why.

    `tables` and `rows` are the numbers of the expected proof, `identical_tables` the number of
    identical tables.
    """

    differences: tuple[Difference, ...]
    skipped: tuple[str, ...]
    tables: int
    identical_tables: int
    rows: int

    @property
    def identical(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    def __str__(self) -> str:
        return (
            f"{count(self.identical_tables)} of {plural(self.tables, 'table')} identical, "
            f"{plural(self.rows, 'row')}"
        )


def compare(expected: Proof, actual: Proof) -> Comparison:
    """Compare the expected rows of a database with the actual ones.

    Unproven tables of `expected` are not compared. `entries` compares the schema.
    """
    return Comparison(
        differences=(
            *_tables(expected, actual),
            *_large_objects(expected, actual),
            *_sequences(expected, actual),
        ),
        skipped=tuple(_skipped(expected, actual)),
        tables=len(expected.tables),
        identical_tables=_identical_tables(expected, actual),
        rows=expected.rows,
    )


def joined(proof: Proof, routed: Mapping[str, tuple[str, str]]) -> Proof:
    """Return a proof with the rows of some partitions counted under their partitioned table.

    A fingerprint is a sum, so that of a whole is the sum of those of its parts.
    """
    wholes: dict[tuple[str, str], TableProof] = {}
    others = []
    for table in proof.tables:
        if (name := routed.get(str(table))) is None:
            others.append(table)
            continue
        whole = wholes.get(name, TableProof(*name, 0, "0"))
        fingerprint = str(Decimal(whole.fingerprint) + Decimal(table.fingerprint))
        wholes[name] = replace(whole, rows=whole.rows + table.rows, fingerprint=fingerprint)
    computed = {name: each for name, each in proof.computed.items() if name not in routed}
    return replace(proof, tables=(*others, *wholes.values()), computed=computed)


def _unproven(*proofs: Proof) -> set[str]:
    return {item.object for proof in proofs for item in proof.unproven}


def _identical_tables(expected: Proof, actual: Proof) -> int:
    return len(set(expected.tables) & set(actual.tables))


def _tables(expected: Proof, actual: Proof) -> Iterator[Difference]:
    by_name = {str(table): table for table in actual.tables}
    wanted = {str(table): table for table in expected.tables}
    failed = {item.object: item.reason for item in actual.unproven}
    others = _of_another_version(expected, actual)
    for name, table in wanted.items():
        if name in others:
            continue
        if name in by_name:
            yield from _table(f"table {name}", table, by_name[name])
        elif f"table {name}" in failed:
            yield Difference(f"table {name}", f" could not be read: {failed[f'table {name}']}")
        else:
            yield Difference(f"table {name}", " is missing")
    unproven = _unproven(expected)
    for name in by_name.keys() - wanted.keys():
        if expected.tables and f"table {name}" not in unproven:
            yield Difference(f"table {name}", " should not be there")


def _table(name: str, wanted: TableProof, actual: TableProof) -> Iterator[Difference]:
    rows = plural(wanted.rows, "row")
    if wanted.rows != actual.rows:
        yield Difference(name, f": {rows} expected, {count(actual.rows)} found")
    elif wanted.fingerprint != actual.fingerprint:
        yield Difference(name, f": {rows} as expected, but their content differs")


def _of_another_version(expected: Proof, actual: Proof) -> dict[str, str]:
    """Return tables of extensions with another version than expected."""
    versions = [proof.extensions for proof in (expected, actual)]
    return {
        table: extension
        for table, extension in expected.of_extensions.items()
        if extension in versions[1] and versions[0].get(extension) != versions[1][extension]
    }


def _computed(expected: Proof, actual: Proof) -> Iterator[str]:
    for table, columns in expected.computed.items():
        computed = actual.computed.get(table, {})
        for column, fingerprint in columns.items():
            if computed.get(column, fingerprint) != fingerprint:
                yield (
                    f"generated column {table}.{quoted(column)}: computed again, "
                    "and not all of its values equal those of the source"
                )


def _large_objects(expected: Proof, actual: Proof) -> Iterator[Difference]:
    if "large objects" in _unproven(expected):
        return
    nothing = TableProof("", "", 0, "0")
    wanted, present = expected.large_objects or nothing, actual.large_objects or nothing
    if expected.large_objects or (expected.tables and actual.large_objects):
        yield from _table("large objects", wanted, present)


def _sequences(expected: Proof, actual: Proof) -> Iterator[Difference]:
    by_name = {str(sequence): sequence for sequence in actual.sequences}
    for sequence in expected.sequences:
        other = by_name.get(str(sequence))
        if other is None:
            yield Difference(f"sequence {sequence}", " is missing")
        elif other != sequence:
            wanted, there_is = (_stands(each.value, each.called) for each in (sequence, other))
            yield Difference(f"sequence {sequence}", f": {wanted} expected, {there_is} found")


def _stands(value: int, called: bool) -> str:
    return f"{value} ({'handed out' if called else 'not yet handed out'})"


def _skipped(expected: Proof, actual: Proof) -> Iterator[str]:
    yield from _computed(expected, actual)
    for table, extension in _of_another_version(expected, actual).items():
        yield f"table {table}: extension {extension} has another version"
    for name, version in sorted(expected.extensions.items()):
        actual_version = actual.extensions.get(name, version)
        if actual_version != version:
            yield f"extension {name}: version {version} expected, {actual_version} found"
