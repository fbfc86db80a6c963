"""Run SQL files with psql, which stays in the checked database.

A file is read twice before a statement of it runs. `lexer` follows it as psql's own lexer would, so
that a backslash is a command where it is one for psql, and nowhere else; `commands` says which
commands a file may use: those that change what is printed, variables, branches, includes. What
connects elsewhere or runs a program (\\connect, \\!, a pipe, backquotes, \\copy ... program) is
refused with file and line, in included files too, and so is the text of a variable that would be
read as a command.

A lexer beside psql's own can be wrong. So psql runs what counts as SQL in its restricted mode
(\\restrict, since the minor releases of August 2025), which takes no command at all: where both
lexers differ, psql ends with an error. A file without commands runs as it is; of one with commands
psql gets a private copy, line by line the same, in which each command stands between \\unrestrict
and \\restrict on one line, the key another one each time: should psql take such a line for the
content of a string, its key is known to the file too late, and none that follows fits. Restricted
mode alone would not do: psql runs backquotes in the argument of \\unrestrict itself.

Afterwards psql is asked by a file of our own, which nothing before it can redirect, whether it is
still in the session and in the transaction that began.

lexer       find commands, ends of statements and rows of COPY as psql does
commands    the psql commands that a file may use
statements  split a stream of SQL without psql: the statements, and the rows of COPY
source      a file or a text, refusing what is not SQL
program     check the files with their includes, and make copies for psql
changes     the rows that files changed
session     one run of psql, with queries before and after the files
script      the files of db.run
shell       psql on a terminal, local or on the database host
"""
