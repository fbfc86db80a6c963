"""The clinic as a web application on this machine: `make web`.

Sets the environment `dev` up, from its server to its sample data, and serves it until Ctrl-C. Run
again, it starts from what is there. For a real site, use a server such as gunicorn:
`gunicorn 'clinic.web:create_app()'`.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pgtasks.errors import BadConfiguration, PgtasksError, Refused
from pgtasks.report import typed
from pgtasks.server import connection, embedded
from pgtasks.server.reach import reach
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load
from pgtasks.settings.target import from_environment

ROOT = Path(__file__).resolve().parents[2]
ROLE = "clinic_app"
_INV = Path(sys.executable).parent / "inv"
PASSWORD = "clinic-demo"
_FREE = 8000  # a port that needs no rights
_SAMPLES = ("hospital_admin", "receptionist", "doctor", "patient")
# one of each kind, of the first hospital that has most of them
_LOGINS = """
WITH account AS (
    SELECT h.code AS hospital, r.code AS role, min(u.username) AS username
    FROM public.users u
    JOIN public.user_role_mapping g ON g.user_id = u.user_id AND g.is_active
    JOIN public.role_master r ON r.role_id = g.role_id
    JOIN public.hospitals h ON h.hospital_id = u.hospital_id
    WHERE r.code = ANY (%s) AND u.created_by = 'seed' AND public.is_account_active(u.user_id)
    GROUP BY h.code, r.code
)
SELECT role, username FROM account
WHERE hospital = (SELECT hospital FROM account GROUP BY hospital ORDER BY count(*) DESC, hospital
                  LIMIT 1)
"""


def main(arguments: list[str] | None = None) -> int:
    """Set up, say where and as whom to log in, serve; return the exit code."""
    options = _options(arguments)
    os.chdir(ROOT)
    try:
        listening = _bound(options.host, options.port)
    except OSError as exc:
        print(f"error: {_fault(exc, options)}", file=sys.stderr)
        return 1
    try:
        with closing(listening):
            if code := set_up(options.env):
                return code
            with in_use(options.env):
                serve(options.env, listening, options.host)
    except PgtasksError as exc:
        print(f"error: {exc.message}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:  # before it was served; then, it only stops to serve
        pass
    print(_ended(options.env), flush=True)
    return 0


def _ended(env: str) -> str:
    """Return what goes on when this has ended."""
    is_embedded = from_environment(resolve(load(ROOT), env)).embedded
    server = embedded.status(ROOT) if is_embedded else None
    if server is None or server.pid is None:
        return "\nended"
    return f"\nended; the database server goes on, {typed.inv('server.stop')} ends it"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m clinic.web", description=__doc__)
    parser.add_argument("--env", default="dev", help="an unprotected environment (default: dev)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=_port, default=_FREE, help=f"0 for any (default: {_FREE})")
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"from 0 to 65535, not {text!r}")


def _bound(host: str, port: int) -> socket.socket:
    """Take the port before the work begins; it answers when that is done."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # of two that start at once, only one gets here
    except BaseException:
        bound.close()
        raise
    return bound


def _fault(exc: OSError, options: argparse.Namespace) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"port {options.port} of {options.host} is taken, "
            f"choose another one: make web ARGS='--port {options.port + 1}'"
        )
    if exc.errno == errno.EACCES:
        return (
            f"port {options.port} of {options.host} is for processes with more rights than this "
            f"one, choose another one: make web ARGS='--port {_FREE}'"
        )
    return f"cannot listen on port {options.port} of {options.host!r}: {exc.strerror or exc}"


def set_up(env: str) -> int:
    """Bring the environment to what the application needs; return the exit code."""
    environment = resolve(load(ROOT), env)
    if environment.protected:
        raise Refused(f"environment {environment.name!r} is protected, its set-up is not by this")
    if (role := environment.settings.pool.role) != ROLE:
        raise BadConfiguration(
            f"environment {environment.name!r}: pool.role: {role!r}, expected {ROLE!r}: write "
            f"`pool: {{role: {ROLE}}}` into env/{environment.name}.yaml"
        )
    words = [str(_INV), "setup", "--env", environment.name]
    return subprocess.run(words, cwd=ROOT, check=False).returncode


@contextmanager
def in_use(env: str) -> Iterator[None]:
    """Keep a session on the server while it is served, so that `make clean` sees it unvisited."""
    with closing(reach(from_environment(resolve(load(ROOT), env)), ROOT)) as reached:
        target = reached.target
    with connection.session(target.at(target.maintenance), purpose="make web"):
        yield


def serve(env: str, listening: socket.socket, host: str) -> None:
    """Serve the application until Ctrl-C."""
    from werkzeug.serving import make_server

    from clinic.web import create_app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request is noise
    app = create_app(env)
    port = listening.getsockname()[1]
    server = make_server(host, port, app, threaded=True, fd=listening.fileno())
    for line in _welcome(env, f"http://{f'[{host}]' if ':' in host else host}:{port}/"):
        print(line, flush=True)
    with closing(server.socket):
        server.serve_forever()


def _welcome(env: str, address: str) -> list[str]:
    """Return where the application is, and who of the sample data can log in."""
    logins = dict(_sample_logins(env))
    lines = [f"\nthe clinic is at {address}, Ctrl-C ends it"]
    lines.append(f"its API is described at {address}api/openapi.json")
    if logins:
        width = max(map(len, logins.values()))
        lines.append(f"log in with the password {PASSWORD!r} as")
        for role in filter(logins.get, _SAMPLES):
            lines.append(f"  {logins[role]:{width}}  {role.replace('_', ' ')}")
    return lines


def _sample_logins(env: str) -> list[tuple[str, str]]:
    target = from_environment(resolve(load(ROOT), env))
    target = embedded.located(target, ROOT) if target.embedded else target
    with connection.session(target, read_only=True, purpose="make web") as conn:
        return [(role, name) for role, name in connection.rows(conn, _LOGINS, (list(_SAMPLES),))]


if __name__ == "__main__":
    sys.exit(main())
