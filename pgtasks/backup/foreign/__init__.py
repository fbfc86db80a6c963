"""Dumps that somebody else made: recognized by content, read to their end, restored as backups are.

form      recognize a dump by its first bytes
packing   unpack a compressed file as a stream
reach     tell what a statement of a dump reaches
contents  what a dump in SQL holds, and the stream of its parts
lookup    which table a name without a schema means in a dump
examine   read a dump in SQL: what it holds, whether it is cut
archive   check the members of an archive, and read it with pg_restore
dump      the dump in the shape of a backup
reading   read a dump from end to end
"""
