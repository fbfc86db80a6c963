"""One finished backup, and what was found out about it since."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.host.decoding import Moment
from pgtasks.host.local import HERE, Host
from pgtasks.server.proof import model as proofs
from pgtasks.server.proof.model import Proof

if TYPE_CHECKING:
    from pgtasks.database.properties import DatabaseProperties

_DAMAGE = 4_000  # characters of it that are kept


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged, proven (UTC, as the journal writes it)."""

    intact: str | None = None
    proven: str | None = None
    damaged: str | None = None
    damage: str = ""

    def text(self) -> str:
        """Return it as it is written."""
        return json.dumps({**asdict(self), "damage": self.damage[:_DAMAGE]}) + "\n"


class _Checks(Struct):
    intact: Moment | None = None
    proven: Moment | None = None
    damaged: Moment | None = None
    damage: str = ""


@dataclass(frozen=True)
class Backup:
    """One finished backup.

    One that lies on a database host has its `folder` there, and in `path` on this machine what is
    small of it: the manifest, and the rest when it was asked for.
    """

    path: Path
    manifest: Manifest
    host: Host = HERE
    folder: str = ""

    @property
    def id(self) -> str:
        """Return its ID."""
        return self.manifest.id

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of its manifest, by which the journal knows it."""
        return hashlib.sha256(manifests.text(self.manifest).encode()).hexdigest()

    @property
    def dump(self) -> Path:
        """Return what pg_restore reads on its host: a folder (layout directory) or a file."""
        return Path(self.folder or self.path) / names.dump_name(self.manifest.layout)

    @property
    def place(self) -> str:
        """Return where it lies, for people: a path, with its host before it if that is another."""
        return f"{self.host.name}:{self.folder}" if self.folder else str(self.path)

    def proof(self) -> Proof | None:
        """Return the proof of its content, None for a backup without one; raises NotProven."""
        if not self.manifest.with_proof:
            return None
        return proofs.parse(self._content(names.PROOF), self._named(names.PROOF))

    def database(self) -> DatabaseProperties:
        """Return the facts of the database itself (owner, grants, settings, comment text)."""
        from pgtasks.database.properties import DatabaseProperties

        return DatabaseProperties.parse(self._content(names.DATABASE), self._named(names.DATABASE))

    def globals(self) -> str:
        """Return the SQL that makes the roles, empty where they could not be read."""
        if names.GLOBALS not in self.manifest.files:
            return ""
        try:
            return self._content(names.GLOBALS).decode("utf-8")
        except ValueError as exc:
            raise NotProven(f"{self._named(names.GLOBALS)}: {exc}") from None

    @property
    def checks(self) -> Checks:
        """Return when it was verified and drilled."""
        try:
            return checks_of(
                plainfile.read(self.path, names.CHECKS, limit=names.LIMITS[names.CHECKS])
            )
        except (OSError, NotProven):
            return Checks()  # never checked, or a note that cannot be read: the same

    def record(self, **changes: str | None) -> Checks:
        """Write down when it was verified or drilled: fields of Checks; its files stay as they are.

        Raises OSError where the folder cannot be written.
        """
        checks = replace(self.checks, **changes)  # type: ignore[arg-type]
        plainfile.replace(self.path, names.CHECKS, checks.text().encode())
        return checks

    def _named(self, name: str) -> str:
        return f"backup {self.id}: {name}"

    def _content(self, name: str) -> bytes:
        """Return a small file as the manifest knows it, raising NotProven for any other content."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise NotProven(f"{self._named(name)}: missing")
        limit = min(expected.size, names.LIMITS[name])
        try:
            content = plainfile.read(self.path, name, limit=limit)
        except OSError as exc:
            raise NotProven(f"{self._named(name)}: {exc.strerror}") from None
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise NotProven(f"{self._named(name)}: its content was changed")
        return content


def checks_of(content: bytes) -> Checks:
    """Return the checks that a file holds, raising NotProven for anything else."""
    said = decoding.decode(content, _Checks, names.CHECKS)
    return Checks(said.intact, said.proven, said.damaged, said.damage)
