"""Log in, log out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import flash, make_response, redirect, render_template, request, session, url_for

from clinic.web import devices
from clinic.web.identity import client
from clinic.web.pages import guards, texts
from clinic.web.pages.blueprint import pages
from clinic.web.pages.forms import LoginForm
from clinic.web.pages.paths import local_path
from clinic.web.security import logins, sessions
from clinic.web.security.errors import LoginDelayed, LoginFailed

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

WRONG = "User name or password is wrong."


@pages.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Ask for name and password; all that can be wrong with them looks the same."""
    if guards.visitor():
        return redirect(url_for("pages.dashboard"))
    form = LoginForm()
    given = request.args.get("next") if request.method == "GET" else form.next.data
    form.next.data = local_path(given)
    if request.method == "GET":
        return render_template("login.html", form=form)
    if not form.validate_on_submit():
        return render_template("login.html", form=form), 422
    try:
        account = logins.attempt(form.username.data, form.password.data, client())
    except LoginDelayed as delayed:
        form.form_errors.append(f"Too many attempts. Try again in {texts.span(delayed.seconds)}.")
        response = make_response(render_template("login.html", form=form), 429)
        response.headers["Retry-After"] = str(max(1, round(delayed.seconds)))
        return response
    except LoginFailed:
        form.form_errors.append(WRONG)
        return render_template("login.html", form=form), 401
    remember = bool(form.remember.data)
    started = sessions.start(account, client(), kind="web", remember=remember)
    guards.begin(started, remember=remember)
    target = form.next.data or url_for("pages.dashboard")
    return devices.remember(make_response(redirect(target)), account.device)


@pages.post("/logout")
def logout() -> ResponseReturnValue:
    """End the session here and in the database."""
    identity = guards.visitor()
    if identity:
        sessions.end(identity, client())
    session.clear()
    flash("You are logged out.", "success")
    return redirect(url_for("pages.login"))
