"""Masks: what a copy reads in place of the values of a column.

settings     the rules of an environment, and the key of its masks
rules        which columns a rule is for
columns      the columns of a source, with what must hold for their values
key          the key as the server gets it
ready        the ready-made masks, by name
values       their SQL for one value
words        the names that masks put in place of real ones
expression   check the expressions of a project's own rules
guess        guess a mask by name, type and values
block        rules as the lines of a file
masking      what is decided about the columns
compilation  turn rules into SQL
constraints  check that values stay distinct, and references
coverage     decide each column: masked, plain, or not decided
suggest      suggest rules for columns that have none
preview      rows before and after
leaks        what masks do not reach
"""
