"""Replace the content of the live database in one transaction, for roles without CREATEDB.

standing  what is in the live database: what is the role's own, and what is of others
plan      the plan: what is dropped, what stays, who waits, what is lost
survey    make the plan
clear     drop what is the role's own
script    run what pg_restore prints as SQL
write     the transaction
compare   compare the definitions after the commit
perform   run all steps in order
outcome   the result
"""

from pgtasks.backup.restore.inplace.perform import restore_in_place

__all__ = ["restore_in_place"]
