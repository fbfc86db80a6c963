"""A PostgreSQL server, and SQL sessions on it.

connection    open sessions, run queries
errors        translate the errors of the driver
records       convert the rows of a query to records
session       the settings of a session, and limits of its statements
opening       open a session, which Ctrl-C ends at once
silence       detect a server that no longer answers
copyin        send the rows of a COPY
interrupt     Ctrl-C during a statement
reach         connect to the server of a target, over SSH too
catalog       queries of the system catalogs
rows          read the rows of a table, masked where a mask says so
statistics    name the tables whose statistics a load leaves to gather
rowcount      count rows without running code of other roles
parser        parse SQL with PostgreSQL's own parser
quoting       quote names for SQL and for file systems, and read quoted ones
stamp         the stamp that names a database's environment
identity      the identity of a database: name, server, stamp
restamp       write the stamp of an existing database
lock          the lock of a database, for one run at a time
guard         decide whether a task may work on a target
room          check that enough connections are free
versiontable  the version table of migrations
psql/         run SQL files and a terminal with psql
dump/         run pg_dump in a snapshot
proof/        count and hash the content of a database
embedded/     the server that pgtasks runs itself
"""
