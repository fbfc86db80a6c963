"""Where commands run, and the files of this machine that they and we leave.

local          commands on this machine; Host, Command and Process as every host has them
pipeline       commands that run side by side, joined by pipes
streams        what a command prints, with a bound
installations  where PostgreSQL is installed, and which majors are supported
tools          pg_dump, pg_restore and psql of a fitting version
password       passwords: asked for, from a program, in a password file
peer           whose a server's socket is
child          what a program that we start gets to see
orphans        end the commands of a run that was killed
disk           the file system of a folder, as df prints it
plainfile      plain files in folders that others may have filled
private        folders and files of ours, for this account alone
tempfiles      temporary files, of runs that live and of killed ones
decoding       JSON from strangers, with its types and sizes checked
journal        who did what, where and when
checkout       which environment was chosen for this checkout
git            what git says of the project
ssh/           a database host over SSH
"""
