"""A whole database on a server: create, drop, swap, undo, recover.

properties  the properties of a database: owner, grants, settings, limit, comment
side        side databases: incomplete, kept for undo, or clones
ownership   decide whether a side database is pgtasks' own
attached    slots, subscriptions and prepared transactions of a database
obstacles   what stops a database from being built and put in place
replaced    what is known of a database that is replaced
kept        the databases that restores replaced
aside       databases that were restored beside one, under a name of the user's
away        drop one of those by its name
beside      build a side database, and drop it if what follows fails
lay         grants and settings of a side database before its load
rights      the owner of a load's result, and the rights of the load
roles       roles of a backup that the server lacks
demands     the objects of an archive that need a superuser
leaving     the objects that --leave-out omits
checks      check constraints in definitions, which it drops
intact      find changes that a load made to other databases
loader      a login role for the sessions of a load
lacking     the objects that the last restore left out
ending      end the sessions of databases
swap        rename both databases in one transaction
create      create a database, or drop it for good
drop        DROP DATABASE, ending its sessions
forget      drop kept databases
undo        swap a kept database back
recover     clean up after interrupted runs
wayback     how grants that were left out come back
scratch     databases of feature checks, and what a killed run of these left
"""
