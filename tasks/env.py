"""Environments: which there are, what they say, which one is chosen."""

from pgtasks.task import run, task


@task
def status(c, env=None, json=False):
    """Say which environment is chosen, and why that one."""
    with run(c, "env.status", env=env, json=json) as r:
        if json:
            r.document({"environment": r.choice.environment, "reason": r.choice.reason})
        else:
            print(f"{r.choice.environment} ({r.choice.reason})")
