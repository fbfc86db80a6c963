"""The dump of a backup.

job    the content, tools and destination of a backup
write  write the files beside the dump: proof, manifest, README
"""
