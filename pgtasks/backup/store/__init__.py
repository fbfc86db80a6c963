"""Where backups lie.

base          what every store can do, and the backups that it holds
choice        what --backup means in a store
tree          folders of backups on this machine
local         the store of this machine
staging       a backup on this machine that is not complete yet
remote        the store of a database host
remote_index  the manifests of a host's backups, kept here for the length of a run
scripts       the shell text that does a store's work on a host
lines         what those scripts print
filestream    files on their way from one place to another
tarstream     the same as a tar archive, which is how they go over the line
transfer      backups copied from one store to another, and lent
destination   where a new one goes
"""
