"""The files of a backup.

names      the names of the files
records    sizes and checksums of files, and differences from them
filelist   the list of files in a manifest, decoded when it is asked for
manifest   the description of a backup, with the checksum of each file
bounds     what a dump may unpack to
checks     when a backup was last verified and proven
retention  whether a backup is kept by hand, and what it has lost
beside     checks and retention as a list has read them
files      write, read and hash files
readme     README.txt: how to restore without pgtasks
foreign    recognize dumps of other tools
"""
