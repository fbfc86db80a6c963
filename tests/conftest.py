"""Fixtures: real servers for the session, an empty database and a project for each test.

cluster, cluster18      servers of the wheel (16 and 18); what most tests use is `cluster`
cluster15               the system's PostgreSQL 15; skips with a reason where there is none
system_cluster          the system's newest PostgreSQL, whatever its major
any_cluster             each of the three in turn
password_cluster        the wheel's 16: asks everybody for a password, socket and 127.0.0.1
plain(options)          makes a role that is no superuser, see roles.py
owned                   an empty database on `cluster`, the Target of its plain owner
fresh_database(cluster) makes an empty database, dropped after the test with all beside it
database, target        an empty database on `cluster`: its name, its Target
project                 a folder with tasks.py, invoke.yaml and env/dev.yaml, whose url leads to
                        `database`, stamped `dev` as `inv db.create` does
site                    the clinic's pages over a database, and who visits them, see visitors.py
window                  a window of Chromium on them, see browsers.py
count(kills=3)          counts what torture sums up at its end
those of depots.py      a database on db1 and its backups, for tests of backups over SSH
inv(*args, ...)         runs the real `inv` in `project` or in `cwd`, in a fork: see prefork.py
new_inv(*args, ...)     the same in a Python of its own
start_inv(*args, ...)   starts `inv` in a fork, and leaves it running
start_new_inv(*args)    the same in a Python of its own
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import initdbs
import pluggy
import prefork
import pytest
import servers
from apis import api  # noqa: F401  the clinic's API, see apis.py
from browsers import address, chromium, window  # noqa: F401  a browser, see browsers.py
from canaries import Canaries
from clinics import seeded, templates  # noqa: F401  fixtures, see clinics.py
from depots import (  # noqa: F401
    big,
    emptied,
    far,
    local,
    made,
    reached,
    shop,
    shop_project,
    stock,
    there,
)
from network import db1, db2, db18, jump, network  # noqa: F401  fixtures, see network.py
from offices import office, office_clinic  # noqa: F401  fixtures, see offices.py
from paths import HOMES, TEMPORARY
from plugins import WITHOUT
from progress import Progress
from projects import make_project, put_stamp
from restores import plain_owner  # noqa: F401
from roles import owned, plain  # noqa: F401
from servers import Cluster
from visitors import open_site, site  # noqa: F401  the clinic's pages, see visitors.py

from pgtasks.errors import PgtasksError
from pgtasks.server.embedded import home
from pgtasks.settings.target import Target

PASSWORD = "s3cret:with\\odd 'characters' ü"
_CLEARED = ("PG", "INVOKE_", "FABRIC_", "PGTASKS_")
_INV = prefork.INV
_LIBRARY = Path(__file__).parent.parent / "pgtasks"


def _globals() -> Iterator[tuple[Any, str]]:
    """Yield what the library's functions assign at module level: (module, name)."""
    for path in sorted(_LIBRARY.rglob("*.py")):
        named = re.findall(r"^ +global (.+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if named:
            dotted = ".".join(path.relative_to(_LIBRARY.parent).with_suffix("").parts)
            module = importlib.import_module(dotted)
            yield from ((module, name) for names in named for name in names.split(", "))


# What a process remembers, as it is before any test: a run of `inv` has a process of its own, tests
# share theirs. The thread that watches for silence serves them all.
_AT_FIRST = [
    (module, name, getattr(module, name)) for module, name in _globals() if name != "_watcher"
]


# the files that take longest, in seconds of all their tests
_LONGEST = (
    *("whole/test_docs.py", "whole/test_remote_every_task.py", "backup/test_only_table.py"),
    *("backup/test_foreign_restore.py", "copy/test_copy_task.py", "backup/test_backup.py"),
    *("cli/test_cli.py", "cli/test_fleet.py", "whole/test_secrets.py", "backup/test_drill.py"),
    *("whole/test_bench.py", "server/test_embedded.py", "backup/test_import.py"),
)


def _clear(environ: Any) -> None:
    for name in list(environ):
        if name.startswith(_CLEARED) or name.endswith("DATABASE_URL"):
            del environ[name]


def pytest_configure(config: pytest.Config) -> None:
    """Let no setting of the developer's reach a server or a session fixture."""
    # the protected environments of these tests are their own: see service/admission.py
    os.environ.pop("PYTEST_VERSION", None)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # a background job of a script ignores it, and what a test starts would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup: what a test starts hears it
        signal.signal(signal.SIGHUP, lambda *_: None)
    _clear(os.environ)
    home.PLACES = (HOMES, *home.PLACES)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(TEMPORARY))  # where tmp_path is
    if not hasattr(config, "workerinput"):  # one for all processes of the run
        config.pluginmanager.register(Canaries())
        config.pluginmanager.register(initdbs.Copies())
        if config.option.verbose == 0:
            config.pluginmanager.register(Progress())
    # hundreds of starts of `inv` need not compile the same files each time
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pluggy.Result[pytest.CollectReport], None]:
    """Let each worker begin to collect with other files: the first to read one compiles it."""
    outcome = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker and isinstance(collector, pytest.Dir):
        found = outcome.get_result().result
        number = int(worker["workerid"].removeprefix("gw"))
        first = len(found) * number // worker["workercount"]
        found[:] = found[first:] + found[:first]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one at the end.

    Those are known; then come those that run `inv` from end to end, or whole copies; then the files
    with the most tests.
    """
    number = Counter(item.path for item in items)
    known = {path: rank for rank, path in enumerate(_LONGEST)}

    def key(item: pytest.Item) -> tuple[int, bool, int, str]:
        file = f"{item.path.parent.name}/{item.path.name}"
        small = item.path.parent.name not in ("whole", "copy", "backup")
        return known.get(file, len(known)), small, -number[item.path], file

    items.sort(key=key)


def pytest_collection_finish() -> None:
    """Let no collection of garbage look at the tests again: thousands, as long as the run lasts."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Show the last words of the tool whose failure failed a test."""
    outcome = yield
    if call.excinfo and isinstance(error := call.excinfo.value, PgtasksError) and error.hint:
        outcome.get_result().sections.append(("hint of the error", error.hint))


def pytest_report_header() -> list[str]:
    """Say which servers the tests run on."""
    wheel = ", ".join(servers.version(servers.wheel_bin(major)) for major in (16, 18))
    system = ", ".join(servers.version(bin) for bin in servers.system_bins().values())
    return [f"PostgreSQL of the wheel: {wheel}; of the system: {system or 'none'}"]


@pytest.fixture(scope="session", autouse=True)
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the last test if an embedded server of a test was not removed with its data."""
    yield
    projects = f"{tmp_path_factory.getbasetemp()}{os.sep}"  # pytest-18 is not pytest-180
    owners = [owner for place in home.PLACES for owner in place.glob("*/owner.json")]
    left = [str(owner) for owner in owners if projects in _text(owner)]
    assert not left, f"embedded.remove these: {left}"


def _text(owner: Path) -> str:
    try:
        return owner.read_text("utf-8", "replace")
    except FileNotFoundError:  # another worker has removed its own meanwhile
        return ""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(_CLEARED) or name.endswith("DATABASE_URL"):
            monkeypatch.delenv(name)
    for module, name, value in _AT_FIRST:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("PYTEST_ADDOPTS", WITHOUT)
    # each run sweeps the temporary files of killed ones: those of other tests are none of its
    # business. The paths are short, for a socket may be created below them.
    with tempfile.TemporaryDirectory(
        prefix="pgt-", dir=TEMPORARY, ignore_cleanup_errors=True
    ) as folder:
        home, temporary = Path(folder, "h"), Path(folder, "t")
        home.mkdir()
        Path(folder).chmod(0o711)  # servers of root's have another account, which may pass here
        temporary.mkdir()
        temporary.chmod(0o711)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL 16 of the wheel."""
    with servers.running(servers.wheel_bin(16)) as running:
        yield running


@pytest.fixture(scope="session")
def cluster18() -> Iterator[Cluster]:
    """PostgreSQL 18 of the wheel."""
    with servers.running(servers.wheel_bin(18)) as running:
        yield running


@pytest.fixture(scope="session")
def system_cluster() -> Iterator[Cluster]:
    """The newest PostgreSQL of the system: it has TLS, contrib, other compressions."""
    found = {major: bin for major, bin in servers.system_bins().items() if 14 <= major <= 18}
    if not found:
        pytest.skip("this system has no PostgreSQL server of its own (14 to 18)")
    with servers.running(found[max(found)], tcp=True) as running:
        yield running


@pytest.fixture(scope="session")
def cluster15(request: pytest.FixtureRequest) -> Cluster:
    """PostgreSQL 15 of the system."""
    found = request.getfixturevalue("system_cluster")
    if found.major != 15:
        pytest.skip(f"this system's PostgreSQL is {found.major}, not 15")
    return found


@pytest.fixture(params=["cluster", "cluster18", "system_cluster"])
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def password_cluster() -> Iterator[Cluster]:
    """PostgreSQL 16 of the wheel that wants a password, on its socket and on 127.0.0.1."""
    with servers.running(servers.wheel_bin(16), password=PASSWORD, tcp=True) as running:
        yield running


@pytest.fixture
def fresh_database() -> Iterator[Callable[..., str]]:
    """Return what makes empty databases: `fresh_database(cluster, name=..., owner=...)`."""
    databases: list[tuple[Cluster, str]] = []

    def make(cluster: Cluster, name: str = "", *, owner: str = "") -> str:
        databases.append((cluster, cluster.create(name, owner=owner)))
        return databases[-1][1]

    yield make
    for cluster, name in databases:
        cluster.drop(name, clones=True)


@pytest.fixture
def database(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    """Return the name of an empty database on `cluster`."""
    return fresh_database(cluster)


@pytest.fixture
def target(cluster: Cluster, database: str) -> Target:
    """Return the target of `database`."""
    return cluster.target(database)


@pytest.fixture
def project(tmp_path: Path, target: Target) -> Path:
    """Return a project's folder; `dev` is `database`, stamped."""
    put_stamp(target)
    return make_project(tmp_path / "shop", target.url())


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Return what counts, for the end of `make torture`, what a test did: `count(kills=3)`."""

    def count(**numbers: int) -> None:
        for name, number in numbers.items():
            record_property(name, number)

    return count


Inv = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    """End what runs `inv` without starting a Python each time."""
    yield
    prefork.close()


@pytest.fixture
def inv(request: pytest.FixtureRequest) -> Inv:
    """Return what runs `inv`: `inv("db.check", "--json", cwd=..., env={...}, input=...)`.

    Without `cwd` it runs in `project`; without `input` its stdin is empty; no terminal.
    """

    def run(
        *args: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        input: str = "",
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        cwd = cwd or request.getfixturevalue("project")
        environ = {**os.environ, **(env or {})}
        return prefork.run([_INV, *args], cwd=cwd, env=environ, input=input, seconds=seconds)

    return run


@pytest.fixture
def new_inv(request: pytest.FixtureRequest) -> Inv:
    """Return what runs `inv` as `inv` does, each time in a Python that starts for it."""

    def run(
        *args: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        input: str = "",
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_INV, *args],
            cwd=cwd or request.getfixturevalue("project"),
            env={**os.environ, **(env or {})},
            input=input,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    return run


Start = Callable[..., Any]


@pytest.fixture
def start_inv(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Return what starts `inv` and leaves it running: for signals. Ended after the test."""
    yield from _starting(prefork.start, request)


@pytest.fixture
def start_new_inv(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Return what starts `inv` as `start_inv` does, in a Python that starts for it."""
    yield from _starting(subprocess.Popen, request)


def _starting(popen: Start, request: pytest.FixtureRequest) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(
        *args: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        process = popen(
            [_INV, *args],
            cwd=cwd or request.getfixturevalue("project"),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a signal to its group reaches all that a terminal's would
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
