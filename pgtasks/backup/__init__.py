"""Backups: a folder each, with the dump, the proof of its content, and the manifest."""
