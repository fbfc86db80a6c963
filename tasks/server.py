"""The embedded server: start, stop, status."""

from pgtasks import run, task


@task(help={"major": "PostgreSQL's major version (default: that of the data, else the newest)"})
def start(c, env=None, major=None, json=False, dry=False):
    """Start the embedded server of an environment."""
    flags = {"major": major}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pgtasks.server import embedded

        embedded.required(r.target)
        if r.dry:
            r.say("plan: start the server, create its data folder if it is missing")
            r.finish(_overview(r))
        else:
            with _telling([r.project.root]):
                started = embedded.start(r.project.root, major=r.target.major)
            r.finish(started)


@task(help={"forget_tests": "also delete the data of the tests' server, which is in memory"})
def stop(c, forget_tests=False, json=False, dry=False):
    """Stop this project's embedded servers; their data stays."""
    with run(c, json=json, dry=dry, journaled=True) as r:
        from pgtasks.server import embedded
        from pgtasks.server.embedded import visitors

        of_tests = embedded.running_tests(r.project.root)
        folders = [r.project.root, *of_tests]
        servers = [each for folder in folders for each in embedded.servers(folder)]
        running = tuple(server for server in servers if server.pid)
        sessions = tuple(line for server in running for line in visitors.sessions(server))
        forgotten = tuple(of_tests) if forget_tests else ()
        if forgotten and not r.dry:
            from pgtasks.service.testing import server as server_of_tests

            server_of_tests.remove(r.project)  # refused while tests use it
        if not r.dry:
            with _telling(folders):
                for folder in folders:
                    embedded.stop(folder)
        r.finish(embedded.Stopped(running, forgotten, sessions, dry=r.dry))


@task
def status(c, json=False):
    """Show this project's embedded servers and the binaries."""
    with run(c, json=json) as r:
        r.finish(_overview(r))


def _overview(r):
    from pgtasks.server import embedded

    return embedded.Overview(embedded.servers(r.project.root), embedded.binaries())


def _telling(folders):
    from pgtasks.report.interruption import telling
    from pgtasks.server import embedded

    return telling(lambda: embedded.states(folders))
