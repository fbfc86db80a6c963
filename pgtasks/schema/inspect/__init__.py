"""What a database holds, read from its catalog: nothing is written, and no code of a role runs.

overview   a database on one screen
tables     all tables, with their rows and sizes
table      all facts about one table
facts      these, as records of the catalog
triggers   all triggers, when they fire and what they call
functions  all functions, with their rights
roles      the roles of the server, and what each may do here
size       where the bytes of a database are
activity   the sessions of a database, what they do, and whom they wait for
diff/      compare two databases, or one with a backup
diagram/   draw tables and foreign keys
"""
