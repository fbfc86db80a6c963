"""The schema of the database as one SQL file."""

from pgtasks import run, task


@task(
    help={
        "file": "path of the file (default: schema.sql in the folder of SQL files)",
        "check": "write nothing, exit 5 if the file differs from the database",
    }
)
def write(c, env=None, file=None, check=False, json=False):
    """Write the schema into a file. Example: inv schema.write --check"""
    with run(c, env=env, json=json, writes=True) as r:
        from pgtasks.report.interruption import telling_files
        from pgtasks.schema import file as schema

        path = schema.place(r.project, file)
        with telling_files(lambda: [path], r.project.shown):
            with r.reading() as reached:
                made = schema.compared(r.project, path, reached.target, reached.host)
            made = made if check else schema.write(made)
        r.finish(made, check=made.check if check else lambda: None)
