"""What an application asks.

environment  which environment it is in, and the URL of its database
"""
