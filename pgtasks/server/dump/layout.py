"""The two forms of an archive that pg_dump writes and this project keeps."""

from __future__ import annotations

from typing import Literal

Layout = Literal["directory", "custom"]
MOST_FILES = 400_000  # of a dump that is a folder, so that its manifest stays below its limit
