"""The options of a restore on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgtasks.backup.restore.rolemap import RoleMap
from pgtasks.errors import Refused

if TYPE_CHECKING:
    from pgtasks.copy.arrive import Arrival
    from pgtasks.copy.mask.settings import Masks


@dataclass(frozen=True)
class RestoreOptions:
    """The options of a restore on the command line."""

    jobs: int
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    leave_behind: bool = False
    accept: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    with_settings: bool = False
    masks: Masks | None = None  # of the backup's environment
    arrival: Arrival | None = None  # the files that run on a masked copy
    only_tables: tuple[str, ...] = ()  # patterns; all if empty
    backup_first: bool = False
    into: str = ""  # the name of a new database, beside the target
    in_place: bool = False  # into the target itself
    no_acl: bool = False
    role_map: RoleMap = field(default_factory=RoleMap)
    create_roles: bool = False
    with_passwords: bool = False
    doubt: str = ""  # why the backup may not come from this project, or may have been changed

    @property
    def has_undo(self) -> bool:
        """Whether a database is replaced and kept, instead of changed."""
        return not (self.only_tables or self.in_place)

    def check(self, *, masked: bool = False) -> None:
        """Raise Refused for flags that exclude each other."""
        if self.into and (self.only_tables or masked):
            flag = "--only-table" if self.only_tables else "--masked"
            raise Refused(f"{flag} and --into exclude each other")
        if self.with_passwords and not self.create_roles:
            raise Refused("--with-passwords is for --create-roles")
        if self.role_map and (self.no_owner or self.masks or masked):
            flag = "--no-owner" if self.no_owner else "--masked"
            raise Refused(f"{flag} and --map-role exclude each other")
        if self.create_roles and self.no_owner:
            raise Refused("--create-roles and --no-owner exclude each other: no role is needed")
        if self.in_place:
            self._check_in_place(masked=masked)
        if not self.only_tables:
            if self.backup_first and not self.in_place:
                raise Refused(
                    "--backup-first is for --only-table and --in-place: a restore has its undo"
                )
            return
        for flag, given in (
            ("--masked", masked or self.masks),
            ("--leave-out", self.leave_out),
            ("--leave-behind", self.leave_behind),
            ("--with-settings", self.with_settings),
            ("--keep-owners", self.keep_owners),
            ("--no-acl", self.no_acl),
            ("--map-role", self.role_map),
            ("--create-roles", self.create_roles),
        ):
            if given:
                raise Refused(f"{flag} is for a whole database, not for --only-table")

    def _check_in_place(self, *, masked: bool) -> None:
        for flag, given, why in (
            ("--only-table", self.only_tables, "it is one transaction in any case"),
            ("--masked", masked or self.masks, "the values as they are would be in its files"),
            ("--into", self.into, "one makes a new database, the other none"),
            ("--as-superuser", self.as_superuser, "it is for roles without such rights"),
            ("--with-settings", self.with_settings, "the database keeps its own settings"),
            ("--leave-behind", self.leave_behind, "the database keeps all that belongs to it"),
        ):
            if given:
                raise Refused(f"{flag} and --in-place exclude each other: {why}")

    @property
    def known(self) -> bool:
        """Return whether the backup was made here and nobody else could change it."""
        return not self.doubt

    @property
    def insists(self) -> str:
        """Return why the database's name must be typed on any target, or an empty text."""
        brings = "restores" if self.into or self.in_place else "swaps in"
        if self.as_superuser:
            return "--as-superuser lets what the backup holds do all that a superuser may"
        if self.with_passwords:
            return "--with-passwords lets whoever knows the passwords in the backup log in"
        if self.leave_out:
            return f"--leave-out {brings} what lacks a part of the backup"
        return f"--accept {brings} what differs from the backup" if self.accept else ""
