"""A backup from beginning to end: made, found, verified, moved, restored.

create    a backup of a target
find      which backup --backup means, here and on the database host
listing   what backup.list prints
views     what backup.show and db.backup print
verify    whether a backup is as it was written
sweep     what interrupted runs left
format/   what a backup is on disk: its manifest, its files
store/    where backups lie: this machine, the database host
dump/     the job of a dump, and what is written beside it
restore/  a backup brought back: built beside, proven, swapped in
"""
