"""Compare the files of a backup with its manifest, every byte of them."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.format import names
from pgtasks.backup.format.records import differences, names_differing
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.faults import damaged
from pgtasks.backup.store.filestream import Tell

_BESIDE = {manifests.NAME, *names.BESIDE}


def check(backup: Backup, jobs: int, tell: Tell | None = None) -> None:
    """Let the store read every file, raising NotProven with the first that is not as written.

    Before the first is read, their names are compared.
    """

    def check_names(actual: set[str]) -> None:
        _refuse(backup, names_differing(backup.manifest.files, actual - _BESIDE))

    reading = backup.store.records(backup, jobs, check=check_names, tell=tell)
    _refuse(backup, differences(backup.manifest.files, reading))


def _refuse(backup: Backup, faults: Sequence[str]) -> None:
    if faults:
        raise damaged(backup.id, faults)
