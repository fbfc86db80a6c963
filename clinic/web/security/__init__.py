"""Who somebody is, and what keeps others from being taken for them.

errors       what a route answers with 401, 403, 409, 422 or 429
origins      where a request comes from, as the database keeps it
passwords    hashes of passwords, and which passwords are refused
throttle     waits after wrong passwords, by account and address
limits       requests of one kind and origin in a time
logins       a user name and a password become an account
sessions     an account opens a session; a token names it
tokens       the tokens of programs: access and refresh
accounts     registration, changes of a password
retention    what is over goes
walls        row-level security holds, or nobody gets in
events       the log of what a security reviewer asks for
permissions  modules and actions that routes ask for
"""
