"""The two archive formats of pg_dump that a backup can have."""

from __future__ import annotations

from typing import Literal

Layout = Literal["directory", "custom"]
MOST_FILES = 400_000  # files of a directory dump, so that the manifest stays below its limit
