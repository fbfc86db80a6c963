"""Watch the files of the settings while an application runs.

A thread looks at their times and sizes every few seconds, which also works on network mounts and
for editors that write a new file and rename it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pgtasks.errors import PgtasksError
from pgtasks.service import forks
from pgtasks.service.statements import LOGGER
from pgtasks.settings.project import Project, candidates

Seen = Mapping[Path, tuple[int, ...]]


def files(project: Project) -> Iterator[Path]:
    """Yield the files that settings come from, also those that are not there."""
    yield from candidates(project.root)
    yield project.root / ".env"
    folder = project.folder("env")
    try:
        yield from (path for path in folder.iterdir() if _has_settings(path.name))
    except OSError:
        pass  # it is not there, or no longer


def _has_settings(name: str) -> bool:
    return name.endswith((".yaml", ".yml", ".env")) and not name.startswith(".")


def seen(project: Project) -> Seen:
    """Return what tells the content of each file from another, without reading it."""
    found = {}
    for path in files(project):
        try:
            status = path.stat()
        except OSError:
            continue
        # the last one changes with the rights, and where a copy keeps time and size
        facts = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
        found[path] = (*facts, status.st_ctime_ns)
    return found


class Watch:
    """A thread that calls `reload` after the files have changed, until `stop`.

    It waits until they have not changed for another look, so that a file that is half written is
    not read. A forked process gets a thread of its own.
    """

    def __init__(
        self, find: Callable[[], Project], reload: Callable[[], object], seconds: float
    ) -> None:
        self._find, self._reload, self._seconds = find, reload, seconds
        self._project = find()
        self._known = self._latest = seen(self._project)
        self._start()
        forks.in_children(self, Watch._start_in_child)

    def _start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name="pgtasks.service.watch", daemon=True
        )
        self._thread.start()

    def _start_in_child(self) -> None:
        if not self._stop.is_set():
            self._start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._seconds):
            try:
                self._look()
            except SystemExit as exc:  # it would end this thread alone, without a word
                LOGGER.error("a subscriber has called sys.exit(%r), the watch goes on", exc.code)
            except Exception:  # the thread must go on
                LOGGER.exception("the files of the settings cannot be watched")

    def _look(self) -> None:
        now = seen(self._project)
        is_still, self._latest = now == self._latest, now
        if now == self._known or not is_still:
            return
        self._known = now
        try:
            self._reload()
            self._follow()
        except PgtasksError as exc:
            LOGGER.error("the settings stay as they were: %s", exc.message)

    def _follow(self) -> None:
        """Look at the folder that the settings name now."""
        before, self._project = self._project, self._find()
        if self._project.folder("env") != before.folder("env"):
            self._known = {}  # what has changed there meanwhile is to be read

    def stop(self) -> None:
        """Stop watching, and wait until the thread has ended."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
