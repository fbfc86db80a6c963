"""The dump of a backup.

job    what is dumped, with which tools, to where
write  what is written beside the dump: proof, manifest, readme
"""
