"""The clinic as a web application: pages for people, an API for programs, on one database service.

factory      create_app: the application, from the settings of an environment
identity     who sends a request, and from where
devices      browsers that somebody has logged in with before
units        units of work in the name of a user
constraints  the constraint that a write has violated
characters   what no text has
calendar     times at which somebody can be seen
headers      what each answer tells the browser to refuse
security/    passwords, logins, sessions, tokens, limits
api/         the routes under /api
pages/       the pages, their forms, the session of a browser
"""

from clinic.web.factory import create_app

__all__ = ["create_app"]
