"""Hosts, where commands run, and local files.

base           the interface of hosts: Host, Command, Process
local          this machine as a host
pipeline       processes connected by pipes
worker         threads that one can wait for
signals        hold the signals that end a run
streams        the output of a command, with a limit
installations  where PostgreSQL is installed, and which majors are supported
tools          pg_dump, pg_restore and psql of a fitting version
password       passwords: from a prompt, a program or a password file
peer           the owner of a server's socket
child          the environment variables of child processes
orphans        end the commands of a run that was killed
disk           the file system of a folder, by df
inotify        which files of a folder their writers have closed
sparse         give back the space of a part of a file
plainfile      regular files in untrusted folders
sources        the project's own files of a folder
private        folders and files that only this account can access
tempfiles      temporary files of runs
decoding       decode untrusted JSON
journal        who did what, where and when
baseline       what differs in the settings since the last run
checkout       the environment that was chosen for this checkout
git            ask git about files
ssh/           a database host over SSH
"""
