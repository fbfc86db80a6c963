"""How things are.

finding     one thing that a check looked at
settings    the settings of all environments
connection  a connection, step by step
database    whether a database is ready for the tasks: the questions
readiness   the answers, judged
leftovers   what interrupted runs left, and damaged backups
host        a database host that is ready for them
"""
