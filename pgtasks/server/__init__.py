"""A PostgreSQL server that is asked in SQL.

connection    sessions of ours: opened, asked, their errors translated
records       rows of a query as records
session       what a session begins with, and how its statements are watched
silence       a server that no longer answers
interrupt     Ctrl-C in the middle of a statement
reach         from a target on paper to one that answers
catalog       what the catalogs say of tables, columns and indexes
rowcount      rows, counted where that runs no code of others
quoting       names as SQL and a shell take them
stamp         which environment a database belongs to, written into it
restamp       what env.stamp does
lock          one run at a time on a database
guard         whether a task may work on a target
room          whether there are connections to be had
versiontable  where a schema's version is written
psql/         SQL files and a terminal, by psql
dump/         pg_dump: its plan, its words, the source that it reads
proof/        what a database holds, counted and hashed
embedded/     the server that pgtasks runs itself
"""
