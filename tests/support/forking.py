"""The process that forks for prefork.py: it has all modules loaded, and each fork runs `inv`."""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import marshal
import os
import pkgutil
import selectors
import signal
import socket
import sys
import termios
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGES = ("pgtasks", "invoke", "fabric", "paramiko", "sqlalchemy", "alembic", "postgast", "rich")
_LONGEST = 4 * 1024**2  # bytes of a request: words and variables
_LARGE = 2 * 1024**2  # bytes of a large page
_COLLAPSE = 25  # MADV_COLLAPSE, since Linux 6.1


class _Ends:
    """The runs that have not ended: their processes, and where their end is awaited."""

    def __init__(self, requests: socket.socket) -> None:
        self.requests = requests
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ)

    def add(self, pid: int, answer: int) -> None:
        _tell(answer, pid)
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))

    def ended(self, key: selectors.SelectorKey) -> None:
        pid, answer = key.data
        self.selector.unregister(key.fileobj)
        os.close(key.fd)
        _tell(answer, os.waitpid(pid, 0)[1])
        os.close(answer)

    def forget(self) -> None:
        """Close, in a fork, what is the business of the process that forks."""
        for key in list(self.selector.get_map().values()):
            os.close(key.fd)
            if key.data:
                os.close(key.data[1])
        self.selector.close()


def _tell(answer: int, number: int) -> None:
    try:
        os.write(answer, f"{number}\n".encode())
    except BrokenPipeError:
        pass  # who asked has given up


def _requested(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    body, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, 4)
    return (marshal.loads(body), descriptors) if body else None


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make a fork what a new process would be."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    if request.get("session"):
        os.setsid()
    if request.get("terminal"):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _forks(requests: socket.socket) -> None:
    """Fork for each request; return in the forks. The process itself ends here."""
    ends = _Ends(requests)
    while True:
        for key, _ in ends.selector.select():
            if key.data:
                ends.ended(key)
                continue
            asked = _requested(requests)
            if asked is None:
                os._exit(0)
            request, descriptors = asked
            if (pid := os.fork()) == 0:
                ends.forget()
                return _become(request, descriptors)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            ends.add(pid, descriptors[3])


def _load() -> None:
    for package in _PACKAGES:
        module = importlib.import_module(package)
        if package == "pgtasks":
            for each in pkgutil.walk_packages(module.__path__, f"{package}."):
                if not each.name.endswith("__main__"):
                    importlib.import_module(each.name)
    _load_tasks()


def _load_tasks() -> None:
    """Load the built-in tasks; forks take them as they are, and load those of a project."""
    from pgtasks.cli import tree

    load, folder = tree._loaded, tree._builtin_folder()
    modules = {path: load(path, folder, own=False) for path in tree._files(folder)}

    def loaded(path: Path, within: Path, *, own: bool) -> ModuleType:
        known = None if own else modules.get(path)
        return known or load(path, within, own=own)

    tree._loaded = loaded


def _copy_data_folders() -> None:
    """Let servers that forks make have copies of a data folder, see initdbs.py."""
    before = set(sys.modules)
    import initdbs

    initdbs.copy_always()
    for name in {"initdbs", "paths"} - before:
        del sys.modules[name]


def _put_homes(place: Path) -> None:
    """Let the embedded servers of root have their data below a folder first."""
    from pgtasks.server.embedded import home

    home.PLACES = (place, *home.PLACES)


def _collapse() -> None:
    """Lay what is loaded into large pages: a fork copies an entry for each page, and frees it.

    A kernel that cannot do so leaves them as they are.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, rights, _, _, file, *name = line.split()
        if "w" in rights and file == "0" and name in ([], ["[heap]"]):
            first, end = (int(bound, 16) for bound in bounds.split("-"))
            for page in range(-(-first // _LARGE) * _LARGE, end - _LARGE + 1, _LARGE):
                advise(page, _LARGE, _COLLAPSE)


class _Exit:
    """Ends a fork after its last line, before Python takes all modules apart.

    To free what the forks share would copy every page of it: more time than most runs take.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._leave)  # the first to be registered is the last to be called

    def run(self) -> None:
        """Run `inv`, its arguments in sys.argv."""
        from invoke.main import program

        try:
            program.run()
            self.code = 0
        except SystemExit as exc:
            self.code = exc.code or 0 if isinstance(exc.code, int | None) else None
            raise

    def _leave(self) -> None:
        if self.code is not None:  # else the end is one that Python itself knows how to tell
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def _main(descriptor: int, homes: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes
    _copy_data_folders()
    sys.path.pop(0)  # this folder: a project's module may have the name of one of these
    at_end = _Exit()
    _load()
    _put_homes(homes)
    gc.collect()
    gc.freeze()  # so that forks share the pages of what is loaded
    _collapse()
    _forks(socket.socket(fileno=descriptor))
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    at_end.run()


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
