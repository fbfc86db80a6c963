"""Stores of backups.

base           the protocol of a store
backup         a backup in a store
contents       the contents of a store
faults         what can be wrong with a backup in a store
choice         find the backup that --backup means in a store
intact         compare the files of a backup with its manifest
tree           folders of backups on this machine
local          the store of this machine
local_draft    a backup that is being written on this machine
staging        the temporary folder of an incomplete backup on this machine
trash          the names of dropped backups
local_trash    dropped backups on this machine
remote         the store of a database host
remote_draft   a backup that is being written on a database host
remote_shell   the shell of a database host, which runs the scripts of a store
remote_index   a local copy of the manifests of a host, for one run
remote_trash   dropped backups on a database host
scripts        the shell scripts that a store runs on its host
trash_scripts  those for dropped backups
lines          parse the output of those scripts
filestream     streams of files between stores
tarstream      such a stream as a tar archive, for transfers over SSH
occupant       what lies at the place of a backup that is copied
transfer       copy a backup to another store, permanently or for one restore
destination    the store of a new backup
"""
