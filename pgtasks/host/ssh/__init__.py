"""The database host over SSH: commands, tunnels and transfers on one Fabric connection.

config       read OpenSSH's own configuration of a host
hostkeys     check the host's key
auth         log in with keys
transport    paramiko's transport, with channels to Unix sockets
route        connect through jump hosts, checking each host key
trust        let a person trust unknown host keys
link         the SSH connection of a run
watchdog     a process on the host that cleans up after a lost run
scripts      the shell scripts that start commands on the host
process      a command that runs on the host
tunnel       a local socket that is forwarded to the server
host         the Host protocol over SSH
login        log in to the host of a target
facts        facts about a host
terminal     a shell or command that a person runs on the host
interactive  give the terminal to a program on the host
"""
