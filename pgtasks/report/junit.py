"""Write results as JUnit's XML, which CI systems read."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from xml.etree import ElementTree  # nosec B405  writes alone, parses nothing

from pgtasks import report
from pgtasks.errors import Failed, Interrupted, PgtasksError, Refused

_INVALID = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One case of a suite: it passed, without a `fault`, an `error` or why it was skipped.

    An `error` is what ended the run, where a `fault` is what the case has found.
    """

    suite: str
    name: str
    seconds: float
    fault: str = ""
    skipped: str = ""
    details: str = ""  # of the fault
    file: str = ""
    line: int = 0
    error: str = ""


@contextmanager
def written(file: str, name: str) -> Iterator[list[Case]]:
    """Write the cases that a block has put into the list, however the block ends; '' is no file.

    What ends the block before it has found a fault is a case of its own, an error. Until the end
    the file says that the run has not ended, so that a kill leaves no result of an earlier run.
    """
    cases: list[Case] = []
    if not file:
        yield cases
        return
    path = Path(file)
    with _writable(path) as out:
        if out is None:  # a pipe takes one document
            write(path, name, [Case(name, "start", 0.0, error="the run has not ended")])
        try:
            yield cases
        except BaseException as exc:
            interrupted = isinstance(exc, (KeyboardInterrupt, Interrupted))
            if interrupted or not any(case.fault for case in cases):
                step = "interrupted" if interrupted else "end" if cases else "start"
                cases.append(Case(name, step, 0.0, error=_words(exc)))
            try:
                write(path, name, cases, out=out)
            except Failed as unwritten:  # the error of the block is the one to know
                report.say(f"warning: {unwritten.message}")
            raise
        write(path, name, cases, out=out)


def _words(exc: BaseException) -> str:
    if isinstance(exc, PgtasksError):
        return exc.message
    if isinstance(exc, KeyboardInterrupt):
        return "interrupted"
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}"


@contextmanager
def _writable(path: Path) -> Iterator[FileIO | None]:
    """Yield what is no regular file, opened for one document, and None for a file.

    Raises Refused if it cannot be written; an existing file stays as it is.
    """
    with ExitStack() as stack:
        try:
            out = None
            if path.exists() and not path.is_file():
                out = stack.enter_context(_opened(path))
            else:
                _try(path)
        except (OSError, ValueError) as exc:
            words = getattr(exc, "strerror", None) or exc
            way = "name a file that can be written"
            if isinstance(exc, OSError) and exc.errno == errno.ENXIO:
                words, way = "nobody reads this pipe", "start its reader first"
            raise Refused(f"--junit {str(path)!r}: {words}, {way}") from None
        yield out


def _opened(path: Path) -> FileIO:
    """Open a pipe or a device; a pipe without a reader would hold the run, before it or after."""
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb", buffering=0)


def _try(path: Path) -> None:
    made = not path.exists()
    with path.open("ab"):
        pass
    if made:
        path.resolve().unlink()  # of a link, what it leads to


def write(path: Path, name: str, cases: Sequence[Case], *, out: FileIO | None = None) -> None:
    """Write the cases in their suites, raising Failed if the file cannot be written.

    `out` is what is open in place of the file.
    """
    root = ElementTree.Element("testsuites", {"name": name, **_counts(cases)})
    for suite in dict.fromkeys(case.suite for case in cases):
        own = [case for case in cases if case.suite == suite]
        element = ElementTree.SubElement(
            root, "testsuite", {"name": _valid(suite), **_counts(own), **_skipped(own)}
        )
        for case in own:
            _put(element, case)
    document = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    try:
        if out is None:
            path.write_bytes(document)
        else:
            while document:
                document = document[out.write(document) :]
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
    if case.error:
        ElementTree.SubElement(element, "error", message=_valid(case.error))
    if case.skipped:
        ElementTree.SubElement(element, "skipped", message=_valid(case.skipped))


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    cases = list(cases)
    return {
        "tests": str(len(cases)),
        "failures": str(sum(1 for case in cases if case.fault)),
        "errors": str(sum(1 for case in cases if case.error)),
        "time": f"{sum(case.seconds for case in cases):.4f}",
    }


def _skipped(cases: Iterable[Case]) -> dict[str, str]:
    """Return the number of skipped cases, which the element of all suites does not have."""
    skipped = sum(1 for case in cases if case.skipped)
    return {"skipped": str(skipped)} if skipped else {}


def _valid(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return _INVALID.sub("\ufffd", text)
