"""What a database holds, read from its catalog: nothing is written, and no code of a role runs.

tables    all tables, with their rows and sizes
table     all facts about one table
facts     these, as records of the catalog
size      where the bytes of a database are
activity  the sessions of a database, what they do, and whom they wait for
"""
