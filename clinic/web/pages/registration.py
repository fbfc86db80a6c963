"""Register: a new patient with an account, who is logged in at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from flask import flash, make_response, redirect, render_template, request, url_for

from clinic.web import devices
from clinic.web.identity import client
from clinic.web.pages import guards
from clinic.web.pages.blueprint import pages
from clinic.web.pages.forms import RegistrationForm
from clinic.web.security import accounts, sessions
from clinic.web.security.accounts import Registration
from clinic.web.security.errors import FieldError, UsernameTaken

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_FIELDS = {"branch_id": "place"}  # what a field is called here


@pages.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    """Make a patient and an account out of what a person enters."""
    if guards.visitor():
        return redirect(url_for("pages.dashboard"))
    form = RegistrationForm()
    form.offer(
        [(str(each.branch_id), f"{each.hospital}, {each.branch}") for each in accounts.places()]
    )
    if request.method == "GET":
        return render_template("registration.html", form=form)
    if not form.validate_on_submit():
        return render_template("registration.html", form=form), 422
    try:
        account = accounts.register(_registration(form), client())
    except FieldError as refused:
        status = 409 if isinstance(refused, UsernameTaken) else 422
        form.refuse(_FIELDS.get(refused.field, refused.field), str(refused))
        return render_template("registration.html", form=form), status
    guards.begin(sessions.start(account, client()), remember=False)
    flash("Welcome. You can now book appointments.", "success")
    answer = make_response(redirect(url_for("pages.dashboard")))
    return devices.remember(answer, account.device)


def _registration(form: RegistrationForm) -> Registration:
    return Registration(
        branch_id=UUID(form.place.data),
        username=form.username.data,
        password=form.password.data,
        first_name=form.first_name.data,
        last_name=form.last_name.data,
        born_on=form.born_on.data,
        email=form.email.data,
    )
