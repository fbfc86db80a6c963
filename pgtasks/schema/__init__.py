"""The files of a project and its database: migrations, triggers, seeds, setup.

setup     bring an empty database up to schema, triggers and seeds
migrate/  Alembic migrations
trigger/  trigger files, and the triggers that are installed
seed/     sets of rows
inspect/  what a database holds
"""
