"""Print the results of tests as TAP, and write them as JUnit's XML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # nosec B405  writes alone, parses nothing

from pgtasks.errors import Failed
from pgtasks.schema.trigger.trial import Check, Tested

_INVALID = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Tap:
    """The results of tests, whose lines are TAP (Test Anything Protocol 13)."""

    tested: Tested

    def lines(self) -> list[str]:
        """Return the lines of TAP."""
        lines = ["TAP version 13", f"1..{len(self.tested.checks)}"]
        for number, check in enumerate(self.tested.checks, 1):
            lines += _lines(number, check)
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return self.tested.as_json()


def _lines(number: int, check: Check) -> Iterator[str]:
    name = check.name.replace("#", "\\#")  # else what follows could be a directive
    yield f"{'not ok' if check.fault else 'ok'} {number} - {name}"
    if check.fault:
        yield "  ---"
        yield f"  message: {json.dumps(check.fault)}"
        yield f"  at: {json.dumps(f'{check.file}:{check.line}')}"
        yield "  ..."


def write_junit(path: Path, tested: Tested) -> None:
    """Write the results as JUnit's XML, raising Failed if the file cannot be written."""
    root = ElementTree.Element("testsuites", {"name": "trigger.test", **_counts(tested.checks)})
    for file in tested.files:
        checks = tuple(check for check in tested.checks if check.file == file)
        suite = ElementTree.SubElement(root, "testsuite", {"name": file, **_counts(checks)})
        for check in checks:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                name=_valid(check.name),
                classname=file,
                file=file,
                line=str(check.line),
                time=f"{check.seconds:.4f}",
            )
            if check.fault:
                ElementTree.SubElement(case, "failure", message=_valid(check.fault))
    try:
        path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    except OSError as exc:
        raise Failed(f"{path}: {exc.strerror}") from None


def _counts(checks: tuple[Check, ...]) -> dict[str, str]:
    return {
        "tests": str(len(checks)),
        "failures": str(sum(1 for check in checks if check.fault)),
        "time": f"{sum(check.seconds for check in checks):.4f}",
    }


def _valid(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return _INVALID.sub("\ufffd", text)
