"""The files that a project lacks, with their text, and the steps left to a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from pgtasks.cli.init.survey import Survey
from pgtasks.cli.init.urls import environment_of
from pgtasks.settings.environment import default_database

_TASKS = """\
import pgtasks

ns = pgtasks.namespace(__file__)
"""
_EXECUTOR = "pgtasks.cli.executor.TaskExecutor"
_PROD = """\
# Copy this file to prod.yaml and fill it in: `inv env.check --env prod`
# checks it. No secret belongs here. The password is in prod.env beside it
# (DATABASE_PASSWORD=..., mode 0600, ignored by git), in ~/.pgpass, or is
# printed by a program (password_command).
protected: true
# If the server listens on its own machine alone, say how to log in there;
# `host` is then the server's address as that machine sees it (localhost).
# ssh: deploy@db1.example.com
host: db1.example.com
database: {database}
user: {user}
sslmode: verify-full
"""
_IGNORE_DOTENV = "# secrets stay on the machine they belong to\n*.env\n"
BACKUPS_IGNORED = "backups/.gitignore"
_IGNORE_ALL = "# backups are data, not code\n*\n!.gitignore\n"


@dataclass(frozen=True)
class InitPlan:
    """The files to write, by name, and the lines for a person."""

    survey: Survey
    files: Mapping[str, str]
    by_hand: tuple[str, ...]
    collection: str  # tasks, or the name for `inv -c`

    def lines(self) -> list[str]:
        """Return the findings, and the files with their text."""
        lines = [f"found  {line}" for line in (*_found(self.survey), *self.survey.notes)]
        for name, text in self.files.items():
            lines += ["", f"write  {name}", *(f"    {line}".rstrip() for line in text.splitlines())]
        if not self.files:
            lines += ["nothing to write, all files exist"]
        return [*lines, *(f"by hand  {line}" for line in self.by_hand), ""]

    def next_steps(self) -> list[str]:
        """Return the commands to type now."""
        inv = "inv" if self.collection == "tasks" else f"inv -c {self.collection}"
        database = self.survey.database or (self.survey.place.database if self.survey.place else "")
        steps = {f"{inv} env.show": "the settings and their origins"}
        if database:
            steps[f"{inv} db.backup"] = "only reads: it works at once"
            steps[f"{inv} env.stamp --confirm {shlex.quote(database)}"] = (
                "stamps the database as dev's, so that a restore may replace it"
            )
        else:
            steps[f"{inv} setup"] = "creates dev: server, database, migrations, triggers, seeds"
        for named in self.survey.others:
            command = f"{inv} db.backup --env {named.environment}"
            steps[command] = "only reads: it works at once"
        width = max(map(len, steps))
        return [f"{command.ljust(width)}  {why}" for command, why in steps.items()]


def plan(survey: Survey) -> InitPlan:
    """Return the missing files, none of which exists."""
    folders = _folders(survey)
    collection = "dbtasks" if survey.tasks == "other" else "tasks"
    wanted = {
        f"{collection}.py": _TASKS,
        "invoke.yaml": _settings(folders),
        f"{survey.env_folder}/dev.yaml": _dev(survey),
        **_others(survey),
        f"{survey.env_folder}/.gitignore": _IGNORE_DOTENV,
        BACKUPS_IGNORED: _IGNORE_ALL,
    }
    if survey.settings:
        del wanted["invoke.yaml"]
    files = {name: text for name, text in wanted.items() if not survey.has(name)}
    return InitPlan(survey, files, tuple(_by_hand(survey, folders)), collection)


def _folders(survey: Survey) -> dict[str, str]:
    """Return the folders that need a setting and do not have one yet."""
    folders = {}
    if survey.env_folder != "env":
        folders["env"] = survey.env_folder
    if survey.migrations not in ("", "migrations"):
        folders["migrations"] = survey.migrations
    if survey.tasks_folder and survey.tasks != "ours":
        folders["tasks"] = "dbtasks"
    return {key: name for key, name in folders.items() if key not in survey.folders}


def _settings(folders: Mapping[str, str]) -> str:
    lines = ["tasks:", f"  executor_class: {_EXECUTOR}"]
    if not folders:
        return "\n".join([*lines, "pgtasks: {}", ""])
    lines += ["pgtasks:", "  folders:", *(f"    {key}: {name}" for key, name in folders.items())]
    return "\n".join([*lines, ""])


def _dev(survey: Survey) -> str:
    if survey.variable:
        return f"# the application's own, as .env or the process says\nurl: ${survey.variable}\n"
    place = survey.place
    if place is None:
        own = "# a server that pgtasks runs itself, in .pgtasks/\nserver: embedded\n"
        # the default is the folder's name: this keeps the database if the folder is renamed
        return f"{own}database: {_quoted(default_database(survey.root.resolve().name, 'dev'))}\n"
    fields = {
        "host": place.host,
        "port": place.port,
        "database": place.database,
        "user": place.user,
    }
    fields["sslmode"] = place.parameters.get("sslmode")
    return "".join(f"{key}: {_quoted(value)}\n" for key, value in fields.items() if value)


def _others(survey: Survey) -> dict[str, str]:
    """Return the files of other environments, with an example if there is no production."""
    files = {}
    for named in survey.others:
        name = f"{survey.env_folder}/{named.environment}.yaml"
        if named.by_itself and (named.environment == "prod" or not named.production):
            continue  # the variable suffices, and `prod` is protected by default
        lines = ["# the application's own, as .env or the process says"]
        lines += ["protected: true"] if named.production else []
        files[name] = "\n".join([*lines, f"url: ${named.variable}", ""])
    if not any(named.production for named in survey.others):
        files[f"{survey.env_folder}/prod.example.yaml"] = _prod(survey)
    return files


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.replace("_", "").replace("-", "").replace(".", "").replace("/", "")
    return text if plain.isalnum() and plain.isascii() else "'" + text.replace("'", "''") + "'"


def _prod(survey: Survey) -> str:
    database = survey.database or (survey.place.database if survey.place else "")
    user = survey.place.user if survey.place else ""
    return _PROD.format(database=_quoted(database or "app"), user=_quoted(user or "app_owner"))


def _found(survey: Survey) -> list[str]:
    lines = []
    if survey.variable:
        host = f" on {survey.host}" if survey.host else ""
        text = f"{survey.variable} in .env: database {survey.database!r}{host}, becomes dev"
        question = " (is it production? then call it PROD_DATABASE_URL)"
        lines.append(text + ("" if environment_of(survey.variable) else question))
    elif survey.place:
        lines.append(f"sqlalchemy.url in alembic.ini: {survey.place.database!r}, becomes dev")
    elif survey.others:
        lines.append("no PostgreSQL URL for dev in .env: it gets a server of its own")
    else:
        lines.append("no PostgreSQL URL in .env: dev gets a server of its own")
    for named in survey.others:
        host = f" on {named.place.host}" if named.place.host else ""
        protected = ", protected" if named.production else ""
        lines.append(
            f"{named.variable} in .env: database {named.place.database!r}{host}, "
            f"is {named.environment}{protected}"
        )
    if survey.migrations:
        lines.append(f"migrations in {survey.migrations}/")
    if survey.tasks == "other":
        lines.append("tasks of another tool: ours go to dbtasks.py, type inv -c dbtasks")
    if survey.env_in_the_way:
        lines.append(f"{survey.env_in_the_way}: environments go to {survey.env_folder}/")
    return lines


def _by_hand(survey: Survey, folders: Mapping[str, str]) -> list[str]:
    lines = []
    if survey.settings and folders:
        pairs = ", ".join(f"{key}: {name}" for key, name in folders.items())
        lines.append(f"add to {survey.settings}:  pgtasks: {{folders: {{{pairs}}}}}")
    if survey.settings and not survey.executor:
        lines.append(f"add to {survey.settings}:  tasks: {{executor_class: {_EXECUTOR}}}")
    if survey.place and survey.place.password and not survey.has(f"{survey.env_folder}/dev.env"):
        lines.append(
            f"the password of alembic.ini goes into {survey.env_folder}/dev.env:  "
            "DATABASE_PASSWORD=..."
        )
    return lines
