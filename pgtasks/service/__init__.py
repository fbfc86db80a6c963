"""The interface for applications.

environment  the environment of a process, and the URL of its database
"""
