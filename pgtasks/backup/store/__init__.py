"""Where backups lie.

local         folders of this machine
staging       a backup that is not complete yet
destination   where a new one goes
remote        folders of the database host
remote_index  the small files of a host's backups, kept here for the length of a run
scripts       the shell text that does a store's work on a host
tarstream     files as a tar stream, in which backups travel
transfer      backups fetched and sent
"""
