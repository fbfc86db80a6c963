"""The part of a database that a copy takes: tables, and rows with all that they refer to.

scope        what the flags ask for
selection    the part that a copy takes of a source
names        the tables that flags name
keys         the foreign keys of a database
subset       the rows that --where and --sample choose, and all that they need
conditions   the conditions of --where
graph        which tables of a subset lead to which
closure      the SQL that chooses the rows of a subset
expressions  the names that an expression uses, and the functions behind them
foreign      code of plain roles that a query would run
shape        the tables of a database with columns, sequences, checks and keys
fits         rows of one database that have no place in the schema of another
carry        a copy made of two databases: what comes from which
"""
