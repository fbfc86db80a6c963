"""The database host, reached over SSH."""

from pgtasks import run, task


@task(
    iterable=["fingerprint"],
    help={
        "fingerprint": "the fingerprint that the host's key must have, or HOST=SHA256:... for each "
        "where jump hosts are on the way (repeatable)",
        "yes": "trust any key (unprotected environments only)",
    },
)
def trust(c, env=None, fingerprint=None, yes=False, json=False, dry=False):
    """Show the keys of the hosts on the way, and trust them."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.host.ssh import trust
        from pgtasks.settings import ssh

        wanted = ssh.required(r.target.ssh, r.environment.name)
        judge = None if r.dry else trust.judge(r.target, fingerprint, yes=yes)
        r.finish(trust.trust(wanted, judge, environment=r.environment.name))


@task(several=True)
def check(c, env=None, json=False):
    """Check the connection to the host, its server, its tools."""
    with run(c, env=env, json=json) as r:
        from pgtasks.health import host as survey

        survey_result = survey.examine(r.target, r.project.root)
        r.finish(survey_result, check=survey_result.check)


@task(several=True)
def facts(c, env=None, json=False):
    """Show facts about the host."""
    with run(c, env=env, json=json) as r:
        from pgtasks.health import host as survey

        r.finish(survey.ask(r.target))


@task
def shell(c, env=None, confirm=None):
    """Open a login shell on the host."""
    with run(c, env=env, dry=False, journaled=True) as r:
        from pgtasks.host.ssh import terminal
        from pgtasks.report.interruption import telling

        r.guarded_host(confirm=confirm)
        if r.dry:
            r.say(f"would open a shell on {r.target.ssh}")
        else:
            with telling(lambda: "what was done in the shell stays"):
                terminal.open_shell(r.target)


@task(help={"write": "allow writes to a protected database, after its name is given or typed"})
def psql(c, env=None, write=False, confirm=None):
    """Open psql on the host, read-only if it is protected."""
    with run(c, env=env, dry=False, journaled=write) as r:
        import sys

        from pgtasks.cli import edge
        from pgtasks.report.interruption import telling
        from pgtasks.server.psql import shell
        from pgtasks.settings import ssh

        edge.refuse_words(sys.argv, r.task)
        ssh.required(r.target.ssh, r.environment.name)
        read_only = r.at_prompt(write=write, confirm=confirm)
        if r.dry:
            r.say(f"would open psql on {r.target.ssh}")
        else:
            reached = r.reached()
            with telling(lambda: "what psql had committed stays"):
                shell.open_there(reached, read_only=read_only)


@task(name="run", help={"command": "the command, quoted as one argument"})
def run_command(c, command, env=None, confirm=None, dry=False):
    """Run a command on the host. Example: inv remote.run 'df -h /srv'"""
    with run(c, env=env, dry=dry, journaled=True) as r:
        from pgtasks.host.ssh import terminal
        from pgtasks.report.interruption import telling

        r.guarded_host(confirm=confirm)
        if r.dry:
            r.say(f"would run on {r.target.ssh}: {command}")
        else:
            with telling(lambda: "what the command had done on the host stays"):
                terminal.run(r.target, command)
