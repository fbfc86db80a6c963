"""Migration scripts and an env.py, written into a project."""

from __future__ import annotations

import textwrap
from pathlib import Path

ENV = """
from alembic import context
from sqlalchemy import MetaData, Table, Column, Integer, Text, create_engine

metadata = MetaData()
Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text))
Table("tags", metadata, Column("id", Integer, primary_key=True))

{connect}
with connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""


HANDED_OVER = "connection = context.config.attributes['connection']"


MAKO = """'''${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
'''
import sqlalchemy as sa
from alembic import op
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
def upgrade():
    ${upgrades if upgrades else "pass"}
def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def revision(folder: Path, name: str, below: str | None, up: str, down: str = "pass") -> None:
    (folder / "versions").mkdir(exist_ok=True)
    (folder / "versions" / f"{name}.py").write_text(
        f'"""revision {name}"""\nfrom alembic import op\nrevision = {name!r}\n'
        f"down_revision = {below!r}\ndef upgrade():\n{textwrap.indent(up, '    ')}\n"
        f"def downgrade():\n{textwrap.indent(down, '    ')}\n",
        encoding="utf-8",
    )


def write_env(folder: Path, connect: str = HANDED_OVER) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "env.py").write_text(ENV.format(connect=connect), encoding="utf-8")
    (folder / "script.py.mako").write_text(MAKO)
