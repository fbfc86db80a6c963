"""How things are.

settings    the settings of all environments
connection  a connection, step by step
database    a database that is ready for the tasks
host        a database host that is ready for them
"""
