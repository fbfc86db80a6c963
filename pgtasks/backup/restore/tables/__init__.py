"""Restore single tables into the live database, in one transaction, through a side database.

choice    the tables of a backup that patterns name, and what belongs to them
standing  these tables in the live database: partitions, foreign keys, triggers, owners
shape     how a table of the backup differs from the live one
plan      the plan: what is replaced, created, locked, lost
survey    make the plan
make      create the tables that do not exist, by statements of pg_dump alone
keys      rows that a foreign key would miss
write     the transaction
perform   run all steps in order
outcome   the result
"""

from pgtasks.backup.restore.tables.perform import restore_tables

__all__ = ["restore_tables"]
