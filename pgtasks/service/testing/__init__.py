"""Databases for tests: a template built from the project's files, a clone of it for each test.

server     the server of the tests: one in memory that only tests use, or that of an environment
fileset    the files that a template is built from, and their hash
ours       tell databases that tests have made from others
template   build the template once, and drop old ones
database   the databases of tests, which are clones of a template
switches   what a test may switch off or on in an application
"""
