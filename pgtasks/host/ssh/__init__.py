"""The database host over SSH: one Fabric connection, on it commands, tunnels and bytes.

config      what OpenSSH's own configuration says of a host
hostkeys    who the host must be
auth        who we are
transport   the transport, able to open unix sockets there
route       the way there: jump hosts, host keys, the login
trust       keys that nobody knows yet, and a person who does
link        the connection of a run
watchdog    the process there that keeps what a run promises
scripts     the shell text that starts a command there
process     a command that runs there
tunnel      a socket here that leads to the server's socket there
host        the Host that features see
login       from a target on paper to one that answers
facts       what a host says of itself
terminal    a shell or a command there, for a person
"""
