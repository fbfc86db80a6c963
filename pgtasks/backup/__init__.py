"""A backup from beginning to end: created, found, verified, transferred, pruned, restored.

create     a backup of a target
find       find the backup that --backup means, here and on the database host
listing    the output of backup.list
dropped    the output of backup.list --trash
drill/     restore a backup elsewhere, prove it, run assertions, drop it
audit      the output of backup.report
standing   how well a database is backed up
views      the output of backup.show and db.backup
verify     check the files of a backup against their checksums
imported   import a backup of a lost machine, or a dump of somebody else
first      a backup of the target before a copy replaces it
restoring  the task db.restore: choose the backup and the way
sweep      remove the files of interrupted runs
prune/     drop the backups that no rule keeps, keep others by hand
format/    the files of a backup: manifest, checksums, README
store/     stores of backups: this machine, the database host
dump/      the dump, and the files beside it
foreign/   the dumps of somebody else: recognized, read to their end
restore/   restore a backup: build it beside the target, prove it, swap it in
"""
