"""The own account: a new password, the own sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import flash, redirect, render_template, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session

from clinic.models import Patient, UserSession
from clinic.web import units
from clinic.web.identity import Identity, client
from clinic.web.pages import guards
from clinic.web.pages.blueprint import pages
from clinic.web.pages.forms import PasswordForm
from clinic.web.security import accounts, sessions
from clinic.web.security.errors import FieldError

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_FIELDS = {"password": "new"}  # what a field is called here


@pages.route("/account", methods=["GET", "POST"])
@guards.signed_in
def account(identity: Identity) -> ResponseReturnValue:
    """Show the own sessions, and change the password."""
    form, status = PasswordForm(), 200
    if request.method == "POST":
        if form.validate() and _changed(identity, form):
            flash("Your password is changed. All other sessions of yours have ended.", "success")
            return redirect(url_for("pages.account"))
        status = 422
    own, record_no = units.run(identity, lambda session: _read(session, identity), read_only=True)
    page = render_template("account.html", form=form, sessions=own, record_no=record_no)
    return page, status


def _read(session: Session, identity: Identity) -> tuple[list[UserSession], str | None]:
    """Return the open sessions of the user, and the record number of one who is a patient."""
    mine = Patient.patient_id == identity.patient_id
    return sessions.listed(session, identity), session.scalar(select(Patient.record_no).where(mine))


def _changed(identity: Identity, form: PasswordForm) -> bool:
    """Change the password, and end all other sessions; or say in the form why not."""
    try:
        accounts.change_password(identity, form.current.data, form.new.data, client())
    except FieldError as refused:
        form.refuse(_FIELDS.get(refused.field, refused.field), str(refused))
        return False
    return True


@pages.post("/account/sessions/end")
@guards.signed_in
def end_other_sessions(identity: Identity) -> ResponseReturnValue:
    """End all sessions of the user but this one."""
    sessions.end_others(identity, client())
    flash("All other sessions of yours have ended.", "success")
    return redirect(url_for("pages.account"))
