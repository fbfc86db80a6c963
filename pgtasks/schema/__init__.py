"""The files of a project and its database: migrations, triggers, roles, seeds, setup.

setup        bring an empty database up to schema, triggers, privileges and seeds
reset        a new database from the files, in the place of the old
copying      a copy over another environment's database, and its trigger files
privileges   files of roles: what others than the owner may do
file         the schema of a database as one SQL file
printed      one form of what servers of any version print
listeners    listen to what a migration's connections do
transaction  the transaction of a migration's connection
step         the steps of a setup or an upgrade, each a line with its time
freeze       the SQL of trigger files in a revision
migrate/     Alembic migrations
trigger/     trigger files, and the triggers that are installed
seed/        sets of rows
inspect/     what a database holds
"""
