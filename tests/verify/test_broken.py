"""Each feature check is seen to fail where its feature is broken: else it would say nothing.

A feature is broken by a function of the library that does not do its work, or by a file or a
database that is not as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSWORD
from projects import make_project
from seeds import CORE, TABLES, sets
from servers import Cluster
from triggers import ON_NOTES, TOUCH

from migrations import revision, write_env
from pgtasks.backup.find import Finder
from pgtasks.cli.opening import opened
from pgtasks.database import create, scratch
from pgtasks.database import undo as undos
from pgtasks.errors import PgtasksError
from pgtasks.schema.trigger.verify import Verification
from pgtasks.server import connection, guard
from pgtasks.server import stamp as stamps
from pgtasks.service import admission, engine
from pgtasks.service.database import DatabaseService
from pgtasks.service.health import Health
from pgtasks.settings import project as projects
from pgtasks.settings import selection
from pgtasks.verify import (
    backups,
    copies,
    environments,
    inspection,
    migrations,
    perform,
    preparation,
    restores,
    rows,
    services,
    triggers,
)
from pgtasks.verify import place as places
from pgtasks.verify.check import CATEGORIES, Check
from pgtasks.verify.outcome import FAILED, PASSED, SKIPPED
from pgtasks.verify.place import Place

ALL = {
    (check.category, check.name): check for check in (*preparation.CHECKS, *perform.of(CATEGORIES))
}
Patch = pytest.MonkeyPatch
Breakage = Callable[[Place, Patch], None]
BROKEN: dict[tuple[str, str], Breakage] = {}
_CHANGED = f"UPDATE {rows.NAME} SET label = 'changed' WHERE id = 3"
_PASSWORD = ("env", "a wrong password is refused")


def breaks(category: str, name: str) -> Callable[[Breakage], Breakage]:
    """Declare how a feature is broken, so that its check must fail."""

    def declared(function: Breakage) -> Breakage:
        assert (category, name) in ALL
        BROKEN[category, name] = function
        return function

    return declared


def make(cluster: Cluster, root: Path, database: str) -> Path:
    """Make a project with a migration in both directions, a trigger and seeds."""
    make_project(root, cluster.url(database))
    with (root / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core]\n")
    write_env(root / "migrations")
    revision(root / "migrations", "one", None, f"op.execute({TABLES!r})")
    up, down = "CREATE TABLE notes (id int, at timestamptz)", "DROP TABLE notes"
    revision(root / "migrations", "two", "one", f"op.execute({up!r})", f"op.execute({down!r})")
    for kind, text in (("functions", TOUCH), ("triggers", ON_NOTES)):
        (root / "sql" / kind).mkdir(parents=True)
        (root / "sql" / kind / "touch.sql").write_text(text, encoding="utf-8")
    (root / "sql" / "roles").mkdir()
    grants = "GRANT SELECT ON public.notes TO PUBLIC;\n"
    (root / "sql" / "roles" / "all.sql").write_text(grants)
    (root / "sql" / "seeds").mkdir()
    sets(root / "sql" / "seeds", core=CORE)
    return root


@dataclass
class Stage:
    """A place on which checks are performed, each after the one before has put all back."""

    place: Place
    root: Path
    before: rows.Content

    def perform(self, check: Check) -> tuple[str, str]:
        """Perform a check, and return its result and text."""
        outcome = perform.performed(check, self.place)
        return outcome.state, outcome.text

    def mended(self, *, schema: bool) -> None:
        """Put back what a broken feature has changed; `schema` if that may not be rows alone."""
        for each in (self.place.first, self.place.second):
            identity = each.identity()
            if identity and identity.stamp and identity.stamp.environment != each.name:
                scratch.remove(each.target)
        if self.place.second.identity() is None:
            with self.place.second.run("db.create") as run, run.writing(missing=True) as lock:
                assert lock is not None
                create.create(lock)
        target = self.place.first.target
        try:
            intact = rows.content(target) == self.before and not rows.has(target, "stray")
        except PgtasksError:
            intact = False
        if schema or not intact:
            restores.restored(self.place.first, backups.kept(self.place))


@pytest.fixture(scope="module")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = make(cluster, tmp_path_factory.mktemp("verify") / "shop", "nothing_of_that_name")
    with ExitStack() as stack:
        r = stack.enter_context(opened(projects.load(root), "verify.all", env="dev", json=True))
        place = stack.enter_context(places.opened(r))
        for check in preparation.CHECKS:
            outcome = perform.performed(check, place)
            assert outcome.state == PASSED, outcome
        assert backups.kept(place).manifest.rows
        yield Stage(place, root, rows.content(place.first.target))


@pytest.mark.parametrize("key", sorted(ALL.keys() - {_PASSWORD}), ids="-".join)
def test_a_check_fails_where_its_feature_is_broken(
    key: tuple[str, str], stage: Stage, monkeypatch: Patch
) -> None:
    assert key in BROKEN, "nobody has seen this check fail"
    kept, project, real = stage.place.kept, stage.place.project, stage.place.real
    try:
        with monkeypatch.context() as patch:
            BROKEN[key](stage.place, patch)
            state, text = stage.perform(ALL[key])
    finally:
        stage.place.kept, stage.place.project, stage.place.real = kept, project, real
        stage.place.lacking = ""
        stage.place.failed.clear()
        stage.mended(schema=key[0] in ("setup", "migrate", "trigger"))
    assert state == FAILED, text
    assert "Error: " not in text, f"the breakage raised, and the check found nothing: {text}"


def test_files_of_roles_leave_nothing(stage: Stage) -> None:
    file = stage.root / "sql" / "roles" / "all.sql"
    before = file.read_text()
    made = "CREATE ROLE passing_by"
    file.write_text(f"{made};\n{before}GRANT UPDATE ON public.notes TO passing_by;\n")
    look = (
        "SELECT coalesce(relacl::text, '') || coalesce(to_regrole('passing_by')::text, '')"
        " FROM pg_class WHERE oid = 'public.notes'::regclass"
    )
    other = file.with_name("other.sql")
    other.write_text("GRANT no_one TO nobody;")
    try:
        state, text = stage.perform(ALL["trigger", "the files of roles run"])
    finally:
        file.write_text(before)
        other.unlink()
    left = "not sql/roles/other.sql: 'no_one', 'nobody' not there"
    assert (state, text) == (PASSED, f"1 file ran and rolled back; {left}")
    with connection.session(stage.place.first.target) as conn:
        assert connection.value(conn, look) == ""


def test_no_breakage_is_for_a_check_that_is_gone() -> None:
    assert BROKEN.keys() <= ALL.keys()


def _after(patch: Patch, module: Any, name: str, then: Callable[[], object]) -> None:
    """Let something happen after each call of a function."""
    real = getattr(module, name)

    def called(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        then()
        return result

    patch.setattr(module, name, called)


def _silent(patch: Patch, module: Any, name: str) -> None:
    """Let a function fail silently."""
    real = getattr(module, name)

    def called(*args: Any, **options: Any) -> Any:
        try:
            return real(*args, **options)
        except PgtasksError:
            return None

    patch.setattr(module, name, called)


# --- setup --------------------------------------------------------------------------------------


@breaks("setup", "scratch databases are made and stamped")
def _unstamped(place: Place, patch: Patch) -> None:
    """They get the stamp of another environment."""
    for each in (place.first, place.second):
        scratch.remove(each.target)
    real = stamps.comment_statement

    def statement(database: str, text: str, mark: Any) -> Any:
        return real(database, text, replace(mark, environment="dev"))

    patch.setattr(preparation.create.stamp, "comment_statement", statement)


@breaks("setup", "all migrations apply to an empty database")
def _not_at_head(place: Place, patch: Patch) -> None:
    rows.run(place.first.target, "DELETE FROM public.alembic_version")


@breaks("setup", "the trigger files apply")
def _broken_trigger(place: Place, patch: Patch) -> None:
    place.project = project = place.with_sql("nothing-there")
    (project.folder("sql") / "triggers" / "x.sql").write_text("CREATE TRIGER x")


@breaks("setup", "the seeds load")
def _broken_seed(place: Place, patch: Patch) -> None:
    place.project = project = place.with_sql("no-seeds")
    (project.folder("sql") / "seeds").mkdir(exist_ok=True)
    head = "-- seed: core\n-- environments: any\n-- repeatable: yes\n"  # it is there already
    text = f"{head}INSERT INTO no_such_table VALUES (1);\n"
    (project.folder("sql") / "seeds" / "core.sql").write_text(text)


# --- backup and restore -------------------------------------------------------------------------


@breaks("backup", "a backup is made, found, and intact")
def _damaged_at_once(place: Place, patch: Patch) -> None:
    real = backups.create.create

    def create(*args: Any, **options: Any) -> Any:
        made = real(*args, **options)
        path = made.path / max(made.manifest.files, key=lambda n: (made.path / n).stat().st_size)
        path.chmod(0o600)
        with path.open("ab") as file:
            file.write(b"x")
        return made

    patch.setattr(backups.create, "create", create)


@breaks("backup", "one changed bit is found")
def _checksums_unread(place: Place, patch: Patch) -> None:
    patch.setattr(backups.reading.intact, "check", lambda *args: None)
    patch.setattr(backups.reading, "_check_structure", lambda *args, **options: None)


@breaks("backup", "a backup without its manifest is none")
def _anything_is_a_backup(place: Place, patch: Patch) -> None:
    backup = backups.kept(place)
    patch.setattr(Finder, "find", lambda *args: backup)


@breaks("restore", "what was lost comes back")
def _rows_lost(place: Place, patch: Patch) -> None:
    statement = f"DELETE FROM {rows.NAME} WHERE id = 7"
    _after(patch, restores, "restore", lambda: rows.run(place.first.target, statement))


@breaks("restore", "an undo takes a restore back")
def _undone_wrongly(place: Place, patch: Patch) -> None:
    _after(patch, undos, "undo", lambda: rows.run(place.first.target, _CHANGED))


@breaks("restore", "a damaged backup is refused, nothing changes")
def _unverified(place: Place, patch: Patch) -> None:
    backup = backups.kept(place)
    real = restores.restore

    def restore(lock: Any, host: Any, damaged: Any, *args: Any, **options: Any) -> Any:
        return real(lock, host, backup, *args, **options)

    patch.setattr(restores, "restore", restore)


@breaks("restore", "the backup passes a drill")
def _undrillable(place: Place, patch: Patch) -> None:
    place.kept = backups.damaged(backups.kept(place), place.folder / "to-drill")


# --- copy and migrate ---------------------------------------------------------------------------


@breaks("copy", "a copy equals its source, row by row")
def _copied_wrongly(place: Place, patch: Patch) -> None:
    _after(patch, copies, "copy", lambda: rows.run(place.second.target, _CHANGED))


@breaks("copy", "an undo takes a copy back")
def _undo_of_a_copy(place: Place, patch: Patch) -> None:
    _after(patch, undos, "undo", lambda: rows.run(place.second.target, _CHANGED))


@breaks("copy", "a copy onto itself is refused")
def _copied_onto_itself(place: Place, patch: Patch) -> None:
    patch.setattr(copies, "copied", lambda *args, **options: None)


@breaks("migrate", "the database is at the head of the files")
def _behind(place: Place, patch: Patch) -> None:
    rows.run(place.first.target, "UPDATE public.alembic_version SET version_num = 'one'")


@breaks("migrate", "the last revision goes down and up again")
def _down_alone(place: Place, patch: Patch) -> None:
    """A downgrade that drops what the revision below has made."""
    up, down = "CREATE TABLE notes (id int, at timestamptz)", "DROP TABLE roles"
    folder = place.real.root / "migrations"
    path = folder / "versions" / "two.py"
    before = path.read_text()
    revision(folder, "two", "one", f"op.execute({up!r})", f"op.execute({down!r})")
    real = migrations.migrate.perform

    def perform(*args: Any, **options: Any) -> Any:
        try:
            return real(*args, **options)
        finally:
            if args[3].direction == "up":
                path.write_text(before)

    patch.setattr(migrations.migrate, "perform", perform)


@breaks("migrate", "an unknown revision is refused")
def _any_revision(place: Place, patch: Patch) -> None:
    real = migrations.migrate.plan

    def plan(*args: Any, **options: Any) -> Any:
        return real(*args[:4], "head", **options)

    patch.setattr(migrations.migrate, "plan", plan)


# --- triggers -----------------------------------------------------------------------------------


@breaks("trigger", "the database has the files as they are")
def _no_trigger(place: Place, patch: Patch) -> None:
    rows.run(place.first.target, "DROP TRIGGER touch ON public.notes")


@breaks("trigger", "a drift is found and mended")
def _drift_unseen(place: Place, patch: Patch) -> None:
    patch.setattr(Verification, "check", lambda self, **options: None)


@breaks("trigger", "a broken file is refused, nothing is applied")
def _broken_passed_over(place: Place, patch: Patch) -> None:
    _silent(patch, triggers.trigger, "apply")


@breaks("trigger", "a trigger without its function is refused")
def _lost_passed_over(place: Place, patch: Patch) -> None:
    _silent(patch, triggers.trigger, "apply")


@breaks("trigger", "the files of roles run")
def _roles_of_nothing(place: Place, patch: Patch) -> None:
    file = place.real.folder("sql") / "roles" / "all.sql"
    before = file.read_text()
    file.write_text("GRANT SELECT ON public.no_such_table TO PUBLIC;\n")
    real = triggers.privileges.rehearse

    def rehearse(*args: Any) -> Any:
        file.write_text(before)
        return real(*args)

    patch.setattr(triggers.privileges, "rehearse", rehearse)


# --- environments -------------------------------------------------------------------------------


@breaks("env", "the settings have no fault")
def _faulty_settings(place: Place, patch: Patch) -> None:
    file = place.real.root / "env" / "dev.yaml"
    before = file.read_text()
    file.write_text(f"{before}passfile: /no/such/file\n")
    try:
        place.real = projects.load(place.real.root)
        place.real.document(file)  # read once
    finally:
        file.write_text(before)


@breaks("env", "an heir leads to its own database")
def _wrong_heir(place: Place, patch: Patch) -> None:
    own = place.project.files[-1]
    block = {name: {**keys, "database": "another"} for name, keys in own.environments.items()}
    files = (*place.project.files[:-1], replace(own, environments=block))
    place.project = replace(place.project, files=files)


@breaks("env", "the environment is chosen in the promised order")
def _wrong_order(place: Place, patch: Patch) -> None:
    real = selection.candidates
    patch.setattr(selection, "candidates", lambda *args: reversed(list(real(*args))))


@breaks("env", "a switch during a backup changes nothing of it")
def _backup_follows(place: Place, patch: Patch) -> None:
    real = backups.made

    def made(scratch: Any, *, talk: Any) -> Any:
        talk.happens()
        copies.copied(place.first, place.second)
        return real(environments._chosen(place), talk=talk)

    patch.setattr(environments.backups, "made", made)


@breaks("env", "a switch during a copy changes nothing of it")
def _copy_follows(place: Place, patch: Patch) -> None:
    real = copies.copied

    def copied(source: Any, scratch: Any, *, midway: Any = None) -> Any:
        if midway is None:
            return real(source, scratch)
        midway()
        done = real(source, scratch)
        rows.run(environments._chosen(place).target, _CHANGED)
        return done

    patch.setattr(environments.copies, "copied", copied)


@breaks("env", "another environment's database is refused")
def _stamp_unread(place: Place, patch: Patch) -> None:
    patch.setattr(guard, "_check_facts_agree", lambda facts: None)


@breaks("env", "a protected environment is not written to")
def _unprotected(place: Place, patch: Patch) -> None:
    patch.setattr(guard, "protection", lambda facts: "")


@breaks("env", "a missing database is named")
def _missing_passed_over(place: Place, patch: Patch) -> None:
    patch.setattr("pgtasks.cli.run.present", lambda identity, target: identity)


def test_a_password_in_an_error_is_found(
    password_cluster: Cluster, tmp_path: Path, monkeypatch: Patch
) -> None:
    root = make_project(tmp_path / "locked", password_cluster.target("none").url(reveal=True))
    run = opened(projects.load(root), "verify.all", env="dev", json=True)
    words = "pgtasks.server.connection.errors.unreachable"
    with run as r, places.opened(r) as place:
        check = ALL[_PASSWORD]
        assert perform.performed(check, place).state == PASSED
        message = f'password authentication failed, it was "wrong-{place.run}"'
        monkeypatch.setattr(words, lambda target, exc: message)
        found = perform.performed(check, place)
        assert (found.state, found.text) == (FAILED, "the password is in the message")
        monkeypatch.setattr(words, lambda target, exc: "no")
        assert perform.performed(check, place).state == FAILED
    assert PASSWORD not in os.environ


# --- inspection ---------------------------------------------------------------------------------


@breaks("inspect", "tables, columns and keys are shown as they are")
def _a_table_unlisted(place: Place, patch: Patch) -> None:
    real = inspection.tables

    def tables(conn: Any, schema: str) -> Any:
        found = real(conn, schema)
        return replace(found, tables=found.tables[:-1])

    patch.setattr(inspection, "tables", tables)


@breaks("inspect", "the sizes are those of the server")
def _no_size(place: Place, patch: Patch) -> None:
    real = inspection.sizes
    patch.setattr(inspection, "sizes", lambda conn: replace(real(conn), bytes=1))


@breaks("inspect", "the database fits on one screen")
def _miscounted(place: Place, patch: Patch) -> None:
    real = inspection.overview

    def overview(*args: Any) -> Any:
        found = real(*args)
        return replace(found, counts={**found.counts, "tables": 1})

    patch.setattr(inspection, "overview", overview)


@breaks("inspect", "a difference to a backup is found and named")
def _no_difference(place: Place, patch: Patch) -> None:
    real = inspection.diffs.with_backup

    def with_backup(*args: Any, **options: Any) -> Any:
        return replace(real(*args, **options), changes=())

    patch.setattr(inspection.diffs, "with_backup", with_backup)


@breaks("inspect", "an unknown table is refused")
def _any_table(place: Place, patch: Patch) -> None:
    _silent(patch, inspection, "table")


# --- service ------------------------------------------------------------------------------------


@breaks("service", "a block commits, or rolls back")
def _no_savepoint(place: Place, patch: Patch) -> None:
    real = DatabaseService.session

    def session(self: Any, **options: Any) -> Any:
        return real(self, read_only=options.get("read_only", False), nested=False)

    patch.setattr(DatabaseService, "session", session)


@breaks("service", "a read-only block cannot write")
def _writes(place: Place, patch: Patch) -> None:
    real = DatabaseService.session
    patch.setattr(DatabaseService, "session", lambda self, **options: real(self))


@breaks("service", "it goes on after a restore under it")
def _breaks_off(place: Place, patch: Patch) -> None:
    def run(self: Any, unit: Any) -> Any:
        with self.session() as session:
            return unit(session)

    real = engine.create

    def create(url: Any, target: Any, pool: Any, options: Any) -> Any:
        return real(url, target, replace(pool, pre_ping=False), options)

    patch.setattr(engine, "create", create)
    patch.setattr(DatabaseService, "run", run)


@breaks("service", "another environment's database is refused")
def _any_stamp(place: Place, patch: Patch) -> None:
    patch.setattr(admission, "agree", lambda *args: None)


@breaks("service", "the health says what is wrong")
def _always_well(place: Place, patch: Patch) -> None:
    patch.setattr(
        services, "check_health", lambda service: Health(service.name, ok=True, stamp=service.name)
    )


# --- what checks raise --------------------------------------------------------------------------


def test_any_exception_is_a_failed_check_and_an_interruption_is_none(stage: Stage) -> None:
    def raises(exc: BaseException) -> Callable[[Place], str]:
        def work(place: Place) -> str:
            raise exc

        return work

    state, text = stage.perform(Check("env", "x", raises(ValueError("two\nlines"))))
    assert (state, text) == (FAILED, "ValueError: two lines")
    with pytest.raises(KeyboardInterrupt):
        stage.perform(Check("env", "x", raises(KeyboardInterrupt())))
    assert stage.place.lacking == ""
    stage.place.lacking = "no database"
    try:
        assert stage.perform(Check("env", "x", lambda place: "")) == (SKIPPED, "no database")
        assert stage.perform(Check("env", "x", lambda place: "fine", bare=True))[0] == PASSED
    finally:
        stage.place.lacking = ""


@pytest.mark.parametrize("name", ["shop", "ü" * 31, "x" * 63, 'a "b" 😀'])
def test_a_name_has_room_for_that_of_a_run(name: str) -> None:
    made = scratch.database_name(name, "0123abc", "a")
    assert len(made.encode()) <= 63
    assert made.endswith("_verify_0123abc_a")
    assert made != scratch.database_name(name + "y", "0123abc", "a")
