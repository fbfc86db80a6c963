"""Write results as JUnit's XML, which CI systems read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405  writes alone, parses nothing

from pgtasks.errors import Failed, Refused

_INVALID = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One case of a suite: it passed, unless it has a `fault` or the reason why it was skipped."""

    suite: str
    name: str
    seconds: float
    fault: str = ""
    skipped: str = ""
    details: str = ""  # of the fault
    file: str = ""
    line: int = 0


def refuse_unwritable(path: Path) -> None:
    """Raise Refused if the file cannot be written; an existing one stays as it is."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except (OSError, ValueError) as exc:
        words = getattr(exc, "strerror", None) or exc
        raise Refused(f"--junit {str(path)!r}: {words}, name a file that can be written") from None


def write(path: Path, name: str, cases: Sequence[Case]) -> None:
    """Write the cases in their suites, raising Failed if the file cannot be written."""
    root = ElementTree.Element("testsuites", {"name": name, **_counts(cases)})
    for suite in dict.fromkeys(case.suite for case in cases):
        own = [case for case in cases if case.suite == suite]
        element = ElementTree.SubElement(
            root, "testsuite", {"name": _valid(suite), **_counts(own), **_skipped(own)}
        )
        for case in own:
            _put(element, case)
    try:
        path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    except OSError as exc:
        raise Failed(f"{path}: {exc.strerror}") from None


def _put(suite: ElementTree.Element, case: Case) -> None:
    where = {"file": case.file, "line": str(case.line)} if case.file else {}
    attributes = {"name": _valid(case.name), "classname": _valid(case.suite), **where}
    element = ElementTree.SubElement(
        suite, "testcase", {**attributes, "time": f"{case.seconds:.4f}"}
    )
    if case.fault:
        failure = ElementTree.SubElement(element, "failure", message=_valid(case.fault))
        if case.details:
            failure.text = _valid(case.details)
    if case.skipped:
        ElementTree.SubElement(element, "skipped", message=_valid(case.skipped))


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    cases = list(cases)
    return {
        "tests": str(len(cases)),
        "failures": str(sum(1 for case in cases if case.fault)),
        "errors": "0",
        "time": f"{sum(case.seconds for case in cases):.4f}",
    }


def _skipped(cases: Iterable[Case]) -> dict[str, str]:
    """Return the number of skipped cases, which the element of all suites does not have."""
    skipped = sum(1 for case in cases if case.skipped)
    return {"skipped": str(skipped)} if skipped else {}


def _valid(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return _INVALID.sub("\ufffd", text)
