"""Prove a copy: its rows and its schema are those of the source's snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pgtasks.copy.loaded import Loaded
from pgtasks.copy.plan import CopyPlan
from pgtasks.errors import Failed, NotProven
from pgtasks.host.local import HERE
from pgtasks.report import Progress, plural
from pgtasks.server import proof as proofs
from pgtasks.server.dump import describe
from pgtasks.server.proof import Comparison, entries
from pgtasks.server.proof.difference import Difference
from pgtasks.server.proof.entries import Access
from pgtasks.server.proof.scope import Content
from pgtasks.server.proof.toc import Entry

_SHOWN = 20  # number of differences in an error


@dataclass(frozen=True)
class Proven:
    """The result of comparing a copy with its source; `notes` say what was not compared.

    `comparison` is None if the proof was not wanted.
    """

    comparison: Comparison | None
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the line for a person: `17 of 17 tables identical, 812,004 rows`."""
        if self.comparison is None:
            return "not proven: it was not compared with the source"
        return str(self.comparison)


def prove(
    plan: CopyPlan, loaded: Loaded, scratch: Callable[[], Sequence[Entry]], *, progress: Progress
) -> Proven:
    """Compare the side database with the source's snapshot, raising NotProven.

    `scratch` loads only the schema into an empty database and returns its entries. It is called if
    a definition differs, because a server may print some definitions differently.
    """
    encoding = plan.facts.encoding
    with describe.describing(plan.proving, HERE, plan.tools, encoding=encoding) as built:
        actual = proofs.take(
            plan.proving,
            jobs=plan.options.jobs,
            format=loaded.proof.format,
            purpose="db.copy proof",
            trusted=True,
            narrow=plan.carried.of_result if plan.carried else _all,
            progress=progress,
        )
        expected, actual = (proofs.joined(each, loaded.routed) for each in (loaded.proof, actual))
        comparison = proofs.compare(expected, actual)
        described = built()
    if isinstance(described, Failed):
        raise described
    differences, notes = compare_schema(plan, loaded.entries, described, scratch)
    _refuse((*comparison.differences, *differences))
    unproven = (f"{item.object}: {item.reason}" for item in loaded.proof.unproven)
    return Proven(comparison, (*unproven, *comparison.skipped, *notes))


def _all(content: Content) -> Content:
    return content


def compare_schema(
    plan: CopyPlan,
    source: Sequence[Entry],
    built: Sequence[Entry],
    scratch: Callable[[], Sequence[Entry]],
) -> tuple[Sequence[Difference], list[str]]:
    """Return how the entries of the side database differ from the source's, and notes."""
    access = _access(plan)
    if plan.no_tablespaces:
        source = [replace(entry, rest=("", *entry.rest[1:])) for entry in source]
    across = plan.origin.major != plan.major
    wanted = entries.schema(source, access, across=across)
    actual = entries.schema(built, across=across)
    words = "printed differently by this server, also from the schema alone"
    if not across:
        compared = entries.compare(wanted, actual, lambda: entries.schema(scratch()))
    else:
        compared = entries.compare_across(wanted, actual)
        words = (
            f"PostgreSQL {plan.origin.major} and {plan.major} print it in ways of their own, "
            "not compared"
        )
    notes = [] if access.grants else ["grants: they were not copied"]
    if not access.subscriptions and any(entry.desc == "SUBSCRIPTION" for entry in source):
        notes.append("subscriptions: only superusers see them")
    if compared.anew:
        notes.append(f"the text of {entries.names(compared.anew)}: {words}")
    return compared.differences, notes


def _access(plan: CopyPlan) -> Access:
    seen = not plan.rights.plain  # pg_dump leaves subscriptions out for other roles
    if plan.rights.mapped:
        owner = plan.facts.owner
        return Access(owner=lambda _: owner, owners=False, grants=False, subscriptions=seen)
    return Access(subscriptions=seen)


def _refuse(differences: Sequence[Difference]) -> None:
    unique = list(dict.fromkeys(differences))
    if not unique:
        return
    shown = [str(each) for each in unique[:_SHOWN]]
    if len(unique) > _SHOWN:
        shown.append(f"and {len(unique) - _SHOWN} more: --json lists all")
    raise NotProven(
        f"the copy differs from the source, nothing was replaced: "
        f"{plural(len(unique), 'difference')}",
        hint="\n".join(shown),
        details={"differences": [{"name": each.name, "difference": str(each)} for each in unique]},
    )
