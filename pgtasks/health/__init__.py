"""Checks.

finding     the result of one check
settings    check the settings of all environments
secrecy     who can read secrets, and what git tracks of them
protected   the way, the roles and the stamp of a protected environment
misspelt    variables whose names are nearly those of settings
connection  find the step at which a connection fails
remedy      the way out of that step
way         the way to a database: its settings, these steps, what the role may do
database    check whether a database is ready for the tasks: read the facts
readiness   judge these facts
project     compare a database with the files of its project: db.check --all
leftovers   files of interrupted runs, and damaged backups
host        check whether a database host is ready for the tasks
maintain    vacuum, analyze and reindex tables
maintained  what these are, and what they did
upkeep      the tables that these work on, and what interrupted runs left
"""
