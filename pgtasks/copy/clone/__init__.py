"""Clones: copies of a database that its server makes and keeps beside it, to go back to.

clones   the clones of a database
take     take one
back     put one in the place of the database
discard  drop some
"""
