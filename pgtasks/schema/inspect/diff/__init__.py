"""Compare two environments, or one with a backup, a schema file or the models.

side         what is read of each of the two
change       one difference
definitions  compare the objects of two archives
columns      compare two definitions of a table
facts        compare extension versions, settings, roles, rows
compare      compare all parts
outcome      the result, for a person and for a program
schema_file  compare a database with a schema file
models       compare a database with the models of the project
script       SQL that makes one side like the other
sources      what the names on the command line mean
perform      read both sides, and compare them
"""
