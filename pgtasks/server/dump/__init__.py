"""Run pg_dump for a backup.

layout       the two archive formats
compression  choose the compression of a dump
source       check the database before its snapshot
standby      dumps of a hot standby
obstacles    objects that a restore would fail at
pg_dump      the commands, and the log of pg_dump
pack         compress the files of a dump while pg_dump writes them
passes       the runs of pg_restore that load an archive
attempt      one dump and its proof, in one snapshot
describe     the table of contents of a database
statements   which statements of an archive are those of pg_dump
kinds        those that pg_dump writes for each kind of entry
nodes        read nodes of the parser
watch        detect changes during a dump, which require another attempt
"""
