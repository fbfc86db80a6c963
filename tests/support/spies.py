"""Code of a plain role that writes a file of the server if a superuser's session of ours runs it.

It does so in a read-only transaction, too. `SPY` needs `{owner}` and `{file}`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Cluster

SPY = """
CREATE SCHEMA more AUTHORIZATION {owner};
SET ROLE {owner};
CREATE FUNCTION more.spy() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    AND pg_catalog.current_setting('application_name') LIKE 'pgtasks%' THEN
    EXECUTE 'COPY (SELECT current_user) TO ''{file}''';
  END IF; END $f$;
CREATE TYPE more.pair AS (a text);
CREATE FUNCTION more.told(more.pair) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
  $f$ BEGIN PERFORM more.spy(); RETURN $1.a; END $f$;
CREATE CAST (more.pair AS text) WITH FUNCTION more.told(more.pair) AS IMPLICIT;
"""


@pytest.fixture
def spied(cluster: Cluster) -> Iterator[Path]:
    """Return a file that the server can write."""
    path = Path(cluster.host) / f"spied{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)
