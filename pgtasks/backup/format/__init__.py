"""What a backup is on disk.

names     the names of its files
records   the records of files, and how files differ from them
manifest  what it is, and the checksum of every file in it
checks    when it was last verified and proven
files     its files: hashed, laid
readme    the file that tells a person without pgtasks how to restore
foreign   dumps that somebody else made
"""
