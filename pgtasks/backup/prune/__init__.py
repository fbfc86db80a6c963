"""Drop the backups that no rule keeps.

rules    decide by rules which backups stay
facts    what is known about the backups of a database in a store
loss     a sudden loss of rows or size against the previous backup
plan     the plan of backup.prune, and its result
perform  carry it out
single   drop one backup by hand, also a damaged one
hands    keep, release and bring back a backup by hand
seen     acknowledge a loss, and what goes after that
"""
