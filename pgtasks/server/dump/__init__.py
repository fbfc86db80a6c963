"""pg_dump, as a backup runs it.

layout       the two forms of an archive that are kept
compression  how a dump is compressed
source       the database that is dumped, as it was just before its snapshot
standby      what a standby makes of a dump
obstacles    what would keep a backup from coming back, seen before it is made
pg_dump      what pg_dump is told, and what it says
attempt      one dump and its proof, of one snapshot
watch        what changed beside it, so that it begins anew
"""
