"""The rows of tables, from one database into another, and the indexes on them.

tables    how the rows of each table are read and written
indexes   the indexes that are built as soon as their table is in
pool      workers that copy tables and build indexes
stream    copy the rows of one table from one session into another
wire      pass them on from socket to socket
messages  a session's socket, and the messages of the protocol that are read
relay     rows from one psql to another, on the host of both servers
throttle  a limit of bytes per second
flush     flush the target's WAL, so that those who write rows need not wait
"""
