"""The life of a database and its backups, in which run after run is killed.

After each kill the database must be the old or the new one, whole, as SQL of facts.py sees it; the
list of backups must be true, and each of them whole, as sha256sum sees it; the next run must heal
and say so, and nothing may be left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import facts as contents
from facts import Facts
from halting import unlocked
from hosts import DatabaseHost
from operations import OPERATIONS
from restores import logins, sides
from servers import Cluster
from waiting import until

from backups import processes_with
from pgtasks.host import tempfiles

_REAL = 0.1  # of the runs killed at a random moment: with a Python that starts for it


@dataclass
class Life:
    """A project whose database has one of two contents, and what is run on it.

    `versions` are a backup of each content, outside the project, and the facts of what is restored
    from it. `place` is the host of the database, None where it is this machine; `stranger` is then
    a backup of another server, of the environment `near`.
    """

    cluster: Cluster
    database: str
    root: Path
    inv: Callable[..., Any]
    start: Callable[..., Any]  # in a fork
    start_anew: Callable[..., Any]  # in a Python that starts for it
    versions: dict[str, tuple[str, Facts]]
    chance: random.Random
    place: DatabaseHost | None = None
    stranger: str = ""
    kills: int = 0
    finished: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    behind: dict[str, Facts] = field(default_factory=dict)  # what kept databases hold
    expired: set[str] = field(default_factory=set)  # backups that prune may have removed for good

    @property
    def project(self) -> Path:
        """Return the folder of the project."""
        return self.root / "shop"

    def facts(self) -> Facts:
        """Return what the database holds."""
        return contents.facts(self.cluster, self.database)

    def homes(self, *, there: bool | None = None) -> list[Path]:
        """Return the folders of the database's backups, here and on the host or in one of them."""
        bases = [self.project / "backups"] if not there else []
        if self.place and there is not False:
            bases.append(self.place.path(self.place.backups))
        return [path for base in bases for path in base.glob("*/*") if path.is_dir()]

    def backups(self, *, there: bool | None = None) -> list[Path]:
        """Return the folders of what looks like a finished backup."""
        return sorted(path for home in self.homes(there=there) for path in home.glob("[!.]*"))

    def ids(self, *, there: bool | None = None) -> list[str]:
        """Return their names."""
        return sorted(path.name for path in self.backups(there=there))

    def trash(self) -> list[str]:
        """Return the IDs in the trash."""
        found = (path for home in self.homes() for path in home.glob(".trash/[!.]*"))
        return sorted(path.name.partition(".")[0] for path in found)

    def partial(self) -> list[str]:
        """Return the folders of backups that are not finished."""
        return [path.name for home in self.homes() for path in home.glob(".*.partial")]

    def kept(self) -> list[str]:
        """Return the databases that are kept for undo, the newest last."""
        return sorted(name for name in sides(self.cluster, self.database) if "__old_" in name)

    def run(self, *args: str) -> Any:
        """Run a task to its end."""
        return unlocked(lambda *words: self.inv(*words, cwd=self.project), *args)

    def done(self, *args: str) -> None:
        """Run a task that must succeed."""
        done = self.run(*args)
        assert done.returncode == 0, (args, done.stderr)

    # one trial

    def trial(self, name: str, step: str = "") -> None:
        """Kill a run of one kind at a step, or at a random moment, and look at what is left."""
        what = OPERATIONS[name]
        argv, allowed = what.begin(self, self.facts())
        ids, kept = set(self.ids()), self.kept()
        process = self._killed(name, argv, step)
        said = f"{name} {step or 'at a moment'} of pid {process.pid}: {process.communicate()}"
        self._ended(process.pid)
        now = self.facts()
        assert now in allowed, (said, _different(now, allowed))
        assert ids <= {*self.ids(), *self.trash(), *self.expired}, said
        self._old_is_kept(kept, allowed, now, swaps=what.swaps, said=said)
        self.heals(now, said)
        what.finish(self, said)

    def _killed(self, name: str, argv: tuple[str, ...], step: str) -> Any:
        real = not step and self.chance.random() < _REAL
        env = {"PGTASKS_HALT_AT": step} if step else {}
        process = (self.start_anew if real else self.start)(*argv, cwd=self.project, env=env)
        seen: list[str] = []
        began = time.monotonic()
        if step:
            self._await(process, step, seen)
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0, self.seconds.get(name, 0.6) + real))
        end = os.killpg if self.chance.random() < 0.5 else os.kill
        if process.poll() is None:
            with suppress(ProcessLookupError):  # it ended meanwhile
                end(process.pid, signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            self.kills += 1
        else:
            assert process.returncode == 0, (argv, *seen, *process.communicate())
            assert not step, (argv, f"does not reach {step}")
            self.finished += 1
            if not real:
                self.seconds[name] = time.monotonic() - began
        return process

    @staticmethod
    def _await(process: Any, step: str, seen: list[str]) -> None:
        for line in process.stderr:
            seen.append(line)
            if line.startswith(f"halted at {step}"):
                return
        process.wait()

    def _ended(self, pid: int) -> None:
        """Wait until nothing of a run is left but files and databases."""
        words = (f"{self.root}/", f"pgtasks-run-{pid}-")
        until(lambda: not processes_with(*words), lambda: processes_with(*words))
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
        until(lambda: not self.cluster.value(query, parameters=(f"pgtasks% {pid} %",)))
        if self.place:
            self.place.quiet()

    def _old_is_kept(
        self, kept: list[str], allowed: Sequence[Facts], now: Facts, *, swaps: bool, said: str
    ) -> None:
        """Assert that what was replaced is kept, and remember what it holds.

        Where one of the same content took its place, that may have happened or not.
        """
        more = [name for name in self.kept() if name not in kept]
        was = allowed[0]
        if swaps and all(each == was for each in allowed):
            assert len(more) <= 1, (said, kept, more)
        else:
            assert len(more) == (swaps and now != was), (said, kept, more)
        self.behind.update(dict.fromkeys(more, was))

    # what is left

    def list_is_true(self, said: str) -> None:
        """Assert that `backup.list` lists what is there, and that each is whole."""
        listed = self.run("backup.list", "--json")
        assert listed.returncode == 0, (said, listed.stderr)
        self._listed(json.loads(listed.stdout), self.ids(), said)
        self._are_whole(said)

    @staticmethod
    def _listed(shown: dict[str, Any], ids: list[str], said: str) -> None:
        assert sorted(each["id"] for each in shown["backups"]) == ids, said
        assert not shown.get("broken"), said

    def _are_whole(self, said: str) -> None:
        """Assert that each backup is whole."""
        for path in self.backups():
            sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
            done = subprocess.run(sums, cwd=path, capture_output=True, text=True)
            assert done.returncode == 0, (said, path, done.stderr)
            document = json.loads((path / "manifest.json").read_text())
            assert document["id"] == path.name, said
            digest = hashlib.sha256((path / "SHA256SUMS").read_bytes()).hexdigest()
            assert document["files"]["SHA256SUMS"]["sha256"] == digest, said

    def heals(self, now: Facts, said: str) -> None:
        """Assert that the list is true, that db.recover says what it heals, and heals all."""
        half = [name for name in sides(self.cluster, self.database) if "__new_" in name]
        partial, ids = self.partial(), self.ids()
        healed = self.run("backup.list", "--json", "db.recover")
        assert healed.returncode == 0, (said, healed.stderr)
        shown, end = json.JSONDecoder().raw_decode(healed.stdout)
        self._listed(shown, ids, said)
        finished = {*self.ids()} - {*ids}  # of a run that was killed before the last step
        assert finished <= {name[1:].removesuffix(".partial") for name in partial}, said
        self._are_whole(said)
        told = healed.stdout[end:] + healed.stderr
        assert all(name in told for name in half), (said, half, told)
        assert not partial or "interrupted" in told, (said, partial, told)
        self._nothing_is_left(said, told)
        assert self.facts() == now, (said, told)
        again = self.run("db.recover", "backup.list", "--json")
        assert again.returncode == 0, (said, again.stderr)
        lines, _, document = again.stdout.partition("{")
        assert _heals_nothing(lines.splitlines()), (said, lines)
        self._listed(json.loads("{" + document), self.ids(), said)

    def _nothing_is_left(self, said: str, told: str) -> None:
        assert self.partial() == [], (said, told)
        left = [name for name in sides(self.cluster, self.database) if "__old_" not in name]
        assert left == [], (said, told)
        assert logins(self.cluster, self.database) == [], said
        assert [str(path) for path in tempfiles.left(tempfile.gettempdir())] == [], said

    # between trials

    def tidy(self) -> None:
        """Drop all kept databases but the newest, and all backups but two of each store."""
        for name in self.kept()[:-1]:
            self.cluster.drop(name)
        for home in self.homes():
            shutil.rmtree(home / ".trash", ignore_errors=True)
            for path in sorted(home.glob("[!.]*"))[:-2]:
                shutil.rmtree(path)

    def other(self, now: Facts) -> str:
        """Return the version that the database has not."""
        return next(name for name, (_, known) in sorted(self.versions.items()) if known != now)


def _different(now: Facts, allowed: list[Facts]) -> list[list[str]]:
    return [
        sorted(key for key in {*now, *each} if now.get(key) != each.get(key)) for each in allowed
    ]


def _heals_nothing(lines: list[str]) -> bool:
    ours = [line for line in lines if "/tmp/pgtasks-run-" not in line]  # of other tests
    return ours[:1] in ([], ["nothing to heal"]) or ours[0].startswith("kept")


@contextmanager
def counted(life: Life, count: Callable[..., None]) -> Iterator[Life]:
    """Count, for the end of `make torture`, the kills of a life, also of one that fails."""
    try:
        yield life
    finally:
        where = "kills over SSH" if life.place else "kills here"
        count(**{"kills": life.kills, where: life.kills, "runs that finished": life.finished})


def several(life: Life, names: Iterable[str], step: str = "", *, number: int = 1) -> None:
    """Kill so many runs of each kind."""
    for _ in range(number):
        for name in names:
            life.trial(name, step)
            life.tidy()
