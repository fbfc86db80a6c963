"""The database host over SSH: one Fabric connection, on it commands, tunnels and bytes.

login       what an environment says of its host
config      what OpenSSH's own configuration says of it
hostkeys    who the host must be
keys        who we are
transport   the transport, able to open unix sockets there
route       the way there: jump hosts, host keys, the login
link        the connection of a run and its lifeline
wrapper     the shell text that starts a command there
process     a command that runs there
tunnel      a socket here that leads to the server's socket there
host        the Host that features see
"""
