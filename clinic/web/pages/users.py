"""The accounts of a hospital, for its administrators: find, disable, end sessions, give roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from flask import abort, flash, redirect, render_template, request, url_for
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from clinic.models import Patient, Role, Staff, User, UserRole, UserSession
from clinic.web import units
from clinic.web.identity import Identity, client
from clinic.web.pages import guards, listing
from clinic.web.pages.blueprint import pages
from clinic.web.pages.fields import offered
from clinic.web.pages.forms import RolesForm, UserFilter
from clinic.web.pages.listing import Query
from clinic.web.security import events, sessions

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

SYSTEM = "system_admin"
_OF_STAFF = (
    *("hospital_admin", "doctor", "nurse", "therapist", "receptionist", "accountant", "staff"),
)
_NAME: ColumnElement[str] = func.coalesce(
    Staff.first_name + " " + Staff.last_name, Patient.first_name + " " + Patient.last_name
)


@dataclass(frozen=True)
class Account:
    """A user with the name of its person and the codes of its roles."""

    user: User
    name: str
    roles: tuple[str, ...]


def accounts(identity: Identity) -> Query:
    """Return the users of a hospital with their names."""
    found: Query = select(User, _NAME)
    return (
        found.join(Staff, Staff.staff_id == User.staff_id, isouter=True)
        .join(Patient, Patient.patient_id == User.patient_id, isouter=True)
        .where(User.hospital_id == identity.hospital_id)
    )


@pages.get("/users")
@guards.permitted("users", "view")
def users(identity: Identity) -> ResponseReturnValue:
    """List the users of the hospital, by name and state."""
    form, number = UserFilter(request.args), listing.number()
    if not form.validate():
        empty: listing.Page[Account] = listing.Page([], 0)
        return render_template("users/list.html", form=form, page=empty), 422
    with units.unit(identity, read_only=True) as session:
        found = _filtered(accounts(identity), form)
        total = listing.total(session, found)
        ordered = found.order_by(_NAME, User.user_id)
        rows = _read(session, listing.part(ordered, number))
    query = {name: value for name, value in form.data.items() if value}
    page = listing.Page(rows, total, number, query)
    if number > page.pages:
        abort(404)
    return render_template("users/list.html", form=form, page=page)


def _filtered(found: Query, form: UserFilter) -> Query:
    if form.state.data:
        found = found.where(User.is_active == (form.state.data == "active"))
    if form.name.data:
        part = form.name.data
        by_name = _NAME.icontains(part, autoescape=True)
        found = found.where(by_name | User.username.icontains(part, autoescape=True))
    return found


def _read(session: Session, found: Query) -> list[Account]:
    rows = session.execute(found).all()
    roles = _roles(session, [user.user_id for user, _ in rows])
    return [Account(user, name, roles.get(user.user_id, ())) for user, name in rows]


def _roles(session: Session, user_ids: Sequence[UUID]) -> dict[UUID, tuple[str, ...]]:
    found = (
        select(UserRole.user_id, func.array_agg(Role.code))
        .join(Role, Role.role_id == UserRole.role_id)
        .where(UserRole.user_id.in_(user_ids), UserRole.is_active)
        .group_by(UserRole.user_id)
    )
    return {user_id: tuple(sorted(codes)) for user_id, codes in session.execute(found)}


def _account(session: Session, identity: Identity, user_id: UUID) -> Account:
    """Return one user of the hospital; 404 for those of others, and for none."""
    found = _read(session, accounts(identity).where(User.user_id == user_id))
    if not found:
        abort(404)
    return found[0]


def _changed(session: Session, identity: Identity, user_id: UUID) -> Account:
    """Return one user, locked, that may be changed: 403 for oneself and for those above."""
    session.execute(
        select(User.user_id)
        .where(User.user_id == user_id, User.hospital_id == identity.hospital_id)
        .with_for_update()
    )
    account = _account(session, identity, user_id)
    if not may_change(identity, account):
        abort(403)
    return account


def may_change(identity: Identity, account: Account) -> bool:
    """Return whether somebody may change a user: not themselves, not who stands above them."""
    if not identity.may("users", "edit") or account.user.user_id == identity.user_id:
        return False
    return SYSTEM not in account.roles or SYSTEM in identity.roles


def grantable(identity: Identity, account: Account) -> tuple[str, ...]:
    """Return the roles that somebody may give a user; a patient is one, and nothing else."""
    if account.user.patient_id:
        return ()
    return (*_OF_STAFF, SYSTEM) if SYSTEM in identity.roles else _OF_STAFF


@pages.route("/users/<uuid:user_id>", methods=["GET", "POST"])
@guards.permitted("users", "view")
def user(identity: Identity, user_id: UUID) -> ResponseReturnValue:
    """Show a user, and set the roles of one."""
    form = RolesForm()
    if request.method == "POST":
        return _set_roles(identity, user_id, form)
    with units.unit(identity, read_only=True) as session:
        account = _account(session, identity, user_id)
        names = _offered(session, identity, account)
        opened = _open_sessions(session, user_id)
    form.roles.choices = offered(names)
    form.roles.data = list(account.roles)
    return render_template(
        "users/user.html",
        form=form,
        account=account,
        sessions=opened,
        may_change=may_change(identity, account),
    )


def _open_sessions(session: Session, user_id: UUID) -> list[UserSession]:
    found = select(UserSession).where(
        UserSession.user_id == user_id,
        UserSession.revoked_at.is_(None),
        UserSession.expires_at > func.now(),
    )
    return list(session.scalars(found.order_by(UserSession.issued_at.desc())))


def _offered(session: Session, identity: Identity, account: Account) -> list[tuple[str, str]]:
    codes = grantable(identity, account)
    found = select(Role.code, Role.name).where(Role.code.in_(codes)).order_by(Role.name)
    return [(code, name) for code, name in session.execute(found)]


def _set_roles(identity: Identity, user_id: UUID, form: RolesForm) -> ResponseReturnValue:
    wanted = set(form.roles.data or ())

    def change(session: Session) -> Account:
        account = _changed(session, identity, user_id)
        if account.user.patient_id or not wanted <= set(grantable(identity, account)):
            abort(403)
        ids = dict(session.execute(select(Role.code, Role.role_id)).all())
        gone = [ids[code] for code in set(account.roles) - wanted]
        dropped = UserRole.role_id.in_(gone) | ~UserRole.is_active
        session.execute(delete(UserRole).where(UserRole.user_id == user_id, dropped))
        for code in sorted(wanted - set(account.roles)):
            session.add(UserRole(user_id=user_id, role_id=ids[code]))
        return account

    account = units.run(identity, change)
    events.record(
        "roles_changed", client(), identity=identity, target=str(user_id), roles=sorted(wanted)
    )
    flash(f"The roles of {account.name} are changed.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


@pages.post("/users/<uuid:user_id>/disable")
@guards.permitted("users", "edit")
def disable_user(identity: Identity, user_id: UUID) -> ResponseReturnValue:
    """Keep a user out, from the next request on."""
    account = _switched(identity, user_id, on=False)
    flash(f"{account.name} is disabled, and all sessions have ended.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


@pages.post("/users/<uuid:user_id>/enable")
@guards.permitted("users", "edit")
def enable_user(identity: Identity, user_id: UUID) -> ResponseReturnValue:
    """Let a user in again."""
    account = _switched(identity, user_id, on=True)
    flash(f"{account.name} may log in again.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


def _switched(identity: Identity, user_id: UUID, *, on: bool) -> Account:
    def switch(session: Session) -> tuple[Account, int]:
        account = _changed(session, identity, user_id)
        account.user.is_active = on
        # not later: who is let in again must not find the sessions of before
        return account, 0 if on else sessions.revoke_all(session, user_id)

    account, ended = units.run(identity, switch)
    name = "user_enabled" if on else "user_disabled"
    events.record(name, client(), identity=identity, target=str(user_id))
    sessions.note_ended(identity, user_id, ended, client())
    return account


@pages.post("/users/<uuid:user_id>/sessions/end")
@guards.permitted("users", "edit")
def end_sessions(identity: Identity, user_id: UUID) -> ResponseReturnValue:
    """End all sessions of a user."""
    account = units.run(
        identity, lambda session: _account(session, identity, user_id), read_only=True
    )
    if not may_change(identity, account):
        abort(403)
    sessions.end_all(identity, user_id, client())
    flash(f"All sessions of {account.name} have ended.", "success")
    return redirect(url_for("pages.user", user_id=user_id))
