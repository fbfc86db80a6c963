"""The keys that an application signs tokens and cookies with.

They come from SECURITY_KEYS or `security.keys_command`. An environment that is not protected has
one of its own without that, in a file that only this account can read.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress

from pgtasks.errors import BadConfiguration
from pgtasks.host import password, private
from pgtasks.service import environment as environments
from pgtasks.settings import security
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.settings.secret import Secret

_BYTES = 48  # of a key that is made
_LIMIT = 1 << 12  # bytes of the file
_MAKE = "`openssl rand -hex 32` prints one"


def get_signing_keys(env: str | None = None) -> tuple[Secret, ...]:
    """Return the signing keys of an environment, the newest first: it signs, all of them verify.

    A protected environment must have one. In another one that has none, a key is made at the first
    call and kept in .pgtasks. Raises BadConfiguration for no key, or one that can be guessed.
    """
    project = environments.find_project()
    environment = environments.of(env)
    joined = environment.signing_keys or _printed(environment, project)
    if joined is None:
        if environment.protected:
            raise BadConfiguration(
                f"environment {environment.name!r} is protected, and has no signing key: "
                f"{security.way_to_keys(_dotenv(environment, project))}"
            )
        joined = _own(environment, project)
    return security.keys(joined, environment.name)


def _dotenv(environment: Environment, project: Project) -> str:
    return project.shown(project.folder("env") / f"{environment.name}.env")


def _printed(environment: Environment, project: Project) -> Secret | None:
    settings = environment.settings
    if not (command := settings.security.keys_command):
        return None
    shown = password.program(command)
    name = f"environment {environment.name!r}: security.keys_command {shown!r}"
    seconds = settings.password_command_timeout
    return password.printed(command, name, seconds, project.root, "keys")


def _own(environment: Environment, project: Project) -> Secret:
    """Return the key of this checkout, which the first process makes."""
    path = project.state / f"{environment.name}.key"
    try:
        private.state(project.state)
        with os.fdopen(private.opened(path, os.O_RDWR), "r+b") as file:
            with suppress(OSError):  # some network mounts have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            shared = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            if shared or status.st_uid not in (os.geteuid(), 0):
                raise BadConfiguration(
                    f"{project.shown(path)} can be read by others: remove it, a new key is made"
                )
            if not (content := file.read(_LIMIT)).endswith(b"\n"):  # none, or cut short by a crash
                content = secrets.token_urlsafe(_BYTES).encode() + b"\n"
                file.seek(0)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as exc:
        raise BadConfiguration(
            f"{project.shown(path)}: {exc.strerror}: put a signing key of environment "
            f"{environment.name!r} as SECURITY_KEYS=... into {_dotenv(environment, project)}; "
            f"{_MAKE}"
        ) from None
    return Secret(content.decode("ascii", "replace").strip())
