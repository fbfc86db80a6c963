"""The version of pgtasks, for what a run writes and says."""

__version__ = "0.1.0"
