"""A PostgreSQL server, and SQL sessions on it.

connection    open sessions, run queries, translate errors
records       rows of a query as records
session       the settings of a session, and limits of its statements
silence       a server that no longer answers
interrupt     Ctrl-C during a statement
reach         from a target on paper to one that answers
catalog       queries of the system catalogs
rowcount      count rows without running code of others
quoting       quote names for SQL and for a shell
stamp         the stamp that names a database's environment
identity      what a database says of itself: name, server, stamp, empty or not
restamp       write the stamp of an existing database
lock          lock a database, so that one run at a time works on it
guard         decide whether a task may work on a target
room          check that enough connections are free
versiontable  the version table of migrations
psql/         run SQL files and a terminal with psql
dump/         run pg_dump in a snapshot
proof/        count and hash the content of a database
embedded/     the server that pgtasks runs itself
"""
