"""A whole database on a server: created, dropped, built beside, swapped, undone, recovered.

properties  what belongs to it beside its content: owner, grants, settings, limit, comment
side        databases beside a target: half built, or kept for undo
ownership   whose such a database is
attached    what hangs on a database from outside: slots, subscriptions, prepared transactions
kept        the databases that restores put away
loader      a login for the sessions of a load
lacking     what the last restore left out
swap        both renames in one statement string
create      its first moment, and what a drop would end
drop        DROP DATABASE, whoever is connected
forget      the end of what was kept
undo        the swap backwards
recover     what interrupted runs left behind
"""
