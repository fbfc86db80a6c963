"""The database host over SSH: one Fabric connection, on it commands, tunnels and bytes.

login       what an environment says of its host
config      what OpenSSH's own configuration says of it
hostkeys    who the host must be
keys        who we are
transport   the transport, able to open unix sockets there
route       the way there: jump hosts, host keys, the login
trust       keys that nobody knows yet, and a person who does
link        the connection of a run
lifeline    the process there that keeps what a run promises
wrapper     the shell text that starts a command there
process     a command that runs there
tunnel      a socket here that leads to the server's socket there
host        the Host that features see
arrive      from a target on paper to one that answers
facts       what a host says of itself
survey      whether it is ready for the tasks
terminal    a shell, psql, a command there for a person
"""
