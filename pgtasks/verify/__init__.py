"""Feature checks: what the tasks promise, tried on scratch databases beside an environment's own.

This room is above all others: a check uses what a user uses, from the settings to the service.

outcome       the result of a check, and of all
check         a check: its category, its name, what it does
scratch       an environment that exists for one run, with a database of its own
place         the scratch environments of a run: made, dropped, swept after a kill
rows          the rows by which a database is recognised
backups       checks of backups
restores      checks of restores
copies        checks of copies
migrations    checks of migrations
triggers      checks of trigger files
environments  checks of environments
inspection    checks of what inspects a database
services      checks of the service for applications
preparation   fill the scratch database from the project's files
perform       run the checks in order
"""
