"""The project's files against the database.

setup     an empty database up to one with schema, triggers and seeds
migrate/  migrations, by Alembic
trigger/  trigger files, and what is installed of them
seed/     sets of rows
"""
