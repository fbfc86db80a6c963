"""The interface for applications and their tests.

environment    the environment of a process, and the URL of its database
pytest_plugin  fixtures of pytest: a database for each test
testing/       the server, the template and the databases of tests
"""
