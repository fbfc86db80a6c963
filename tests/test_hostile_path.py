"""Whoever may create objects where a role looks first runs nothing as that role."""

from __future__ import annotations

from servers import Cluster

from pgtasks import connection, stamp
from pgtasks.target import Target

HOSTILE = """
CREATE SCHEMA evil;
CREATE SEQUENCE evil.called;
CREATE FUNCTION evil.shobj_description(oid, text) RETURNS text LANGUAGE sql
  AS $$ SELECT 'pgtasks: environment=dev database=x system=' || nextval('evil.called') $$;
CREATE FUNCTION evil.ge(oid, integer) RETURNS boolean LANGUAGE sql
  AS $$ SELECT nextval('evil.called') > 0 $$;
CREATE OPERATOR evil.>= (LEFTARG = oid, RIGHTARG = integer, FUNCTION = evil.ge);
CREATE VIEW evil.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE false;
"""


def test_the_stamp_is_the_catalogs_own(cluster: Cluster, target: Target) -> None:
    cluster.execute(HOSTILE, target.database)
    cluster.execute(
        f'ALTER DATABASE "{target.database}" SET search_path = evil, public, pg_catalog'
    )
    with connection.session(target, read_only=True) as conn:
        assert stamp.identify(conn).stamp is None
        assert not stamp.identify(conn).empty
    assert not cluster.value("SELECT is_called FROM evil.called", target.database)
