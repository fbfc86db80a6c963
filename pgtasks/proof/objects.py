"""The queries that describe a database's objects, one per kind, for the schema's digests.

Each yields: name (its parts), suffix, facts, expressions, access. Facts are what holds across
restores and major versions: columns by name, never by number or OID; names of types and roles
as text. Expressions are what servers print by deparsing. Access is owner and privileges. What
pg_dump does not save is left out (invalid indexes, members of extensions, tablespaces, whether an
inherited column is also declared locally), and what a restore names anew (foreign keys and
triggers that partitions have from their parents, NOT NULL constraints).
"""

from __future__ import annotations

_OWN = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _no_member(catalog: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass"
        f" AND e.objid = {oid} AND e.deptype = 'e')"
    )


def _grants(acl: str) -> str:
    """Return SQL for a list of privileges as sorted text.

    MAINTAIN came with PostgreSQL 17 and is part of the owner's default there: it is left out.
    """
    return (
        "coalesce((SELECT string_agg("
        "CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END || '='"
        " || x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ','"
        ' ORDER BY pg_get_userbyid(x.grantee)::text COLLATE "C", x.grantee = 0,'
        ' x.privilege_type COLLATE "C")'
        f" FROM aclexplode({acl}) x WHERE x.privilege_type <> 'MAINTAIN'), '')"
    )


def _access(owner: str, acl: str, kind: str) -> str:
    """Return SQL for owner and privileges as text; a default list is written out."""
    listed = _grants(f"coalesce({acl}, acldefault('{kind}', {owner}))")
    return f"pg_get_userbyid({owner}) || ':' || {listed}"


def _sorted(array: str) -> str:
    return f'(SELECT array_agg(o ORDER BY o COLLATE "C") FROM unnest({array}) o)'


def _names(keys: str, relation: str, order: str = "z.position") -> str:
    """Return SQL for the names of the columns that an array of numbers holds."""
    return (
        f"(SELECT array_agg(a.attname::text ORDER BY {order})"
        f" FROM unnest({keys}) WITH ORDINALITY z(number, position)"
        f" JOIN pg_attribute a ON a.attrelid = {relation} AND a.attnum = z.number)"
    )


_SCHEMAS = f"""
SELECT 'schema', ARRAY[n.nspname::text], '',
  jsonb_build_array(CASE WHEN n.nspname = 'public' THEN NULL
    ELSE obj_description(n.oid, 'pg_namespace') END),
  ARRAY[]::text[], {_access("n.nspowner", "n.nspacl", "n")}
FROM pg_namespace n WHERE {_OWN} AND {_no_member("pg_namespace", "n.oid")}
"""

_RELATIONS = f"""
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
    WHEN 'f' THEN 'foreign table' ELSE 'table' END,
  ARRAY[n.nspname, c.relname]::text[], '',
  jsonb_build_array(c.relkind, c.relpersistence, {_sorted("c.reloptions")}, c.relreplident,
    c.relrowsecurity, c.relforcerowsecurity, c.relispartition,
    CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
    CASE WHEN c.relkind IN ('r', 'm') THEN am.amname END,
    (SELECT array_agg(format('%s.%s', pn.nspname, p.relname) ORDER BY i.inhseqno)
     FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
     JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid),
    (SELECT jsonb_build_array(s.srvname, f.ftoptions) FROM pg_foreign_table f
     JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
    obj_description(c.oid, 'pg_class')),
  ARRAY[CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
    pg_get_expr(c.relpartbound, c.oid),
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END],
  {_access("c.relowner", "c.relacl", "r")}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {_OWN}
  AND {_no_member("pg_class", "c.oid")}
"""

_COLUMNS = f"""
SELECT 'column', ARRAY[n.nspname, c.relname, a.attname]::text[], '',
  jsonb_build_array(format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
    a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
    coalesce(a.attstattarget, -1), {_sorted("a.attoptions")}, a.attfdwoptions,
    col_description(c.oid, a.attnum)),
  ARRAY[pg_get_expr(d.adbin, d.adrelid)],
  {_grants("a.attacl")}
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {_OWN}
  AND a.attnum > 0 AND NOT a.attisdropped AND {_no_member("pg_class", "c.oid")}
"""

_CONSTRAINTS = f"""
SELECT 'constraint', ARRAY[n.nspname, coalesce(c.relname, t.typname), k.conname]::text[], '',
  jsonb_build_array(k.contype, k.condeferrable, k.condeferred, k.convalidated,
    CASE WHEN k.contype = 'c' THEN k.connoinherit END,
    CASE WHEN k.contype = 'c' THEN {_names("k.conkey", "k.conrelid", 'a.attname COLLATE "C"')}
      ELSE {_names("k.conkey", "k.conrelid")} END,
    (SELECT format('%s.%s', fn.nspname, f.relname) FROM pg_class f
     JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE f.oid = k.confrelid),
    {_names("k.confkey", "k.confrelid")}, k.confupdtype, k.confdeltype, k.confmatchtype,
    obj_description(k.oid, 'pg_constraint')),
  ARRAY[pg_get_constraintdef(k.oid)], ''
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND {_OWN}
  AND NOT (k.contype = 'f' AND k.conparentid <> 0)
  AND (c.oid IS NULL OR c.relpersistence <> 't')
  AND {_no_member("pg_class", "k.conrelid")} AND {_no_member("pg_type", "k.contypid")}
"""

_INDEXES = f"""
SELECT 'index', ARRAY[n.nspname, x.relname]::text[], '',
  jsonb_build_array(c.relname, i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate,
    i.indisreplident, i.indisclustered, am.amname, {_sorted("x.reloptions")},
    (SELECT p.relname FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
     WHERE h.inhrelid = x.oid), obj_description(x.oid, 'pg_class')),
  ARRAY[pg_get_indexdef(x.oid)], ''
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = x.relnamespace JOIN pg_am am ON am.oid = x.relam
WHERE {_OWN} AND c.relpersistence <> 't' AND (i.indisvalid OR c.relkind = 'p') AND i.indisready
  AND {_no_member("pg_class", "c.oid")}
"""

_TRIGGERS = f"""
SELECT 'trigger', ARRAY[n.nspname, c.relname, t.tgname]::text[], '',
  jsonb_build_array(t.tgenabled, obj_description(t.oid, 'pg_trigger')),
  ARRAY[pg_get_triggerdef(t.oid)], ''
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {_OWN} AND c.relpersistence <> 't'
  AND {_no_member("pg_trigger", "t.oid")} AND {_no_member("pg_class", "c.oid")}
UNION ALL
SELECT 'rule', ARRAY[n.nspname, c.relname, r.rulename]::text[], '',
  jsonb_build_array(r.ev_enabled, obj_description(r.oid, 'pg_rewrite')),
  ARRAY[pg_get_ruledef(r.oid)], ''
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND {_OWN} AND {_no_member("pg_rewrite", "r.oid")}
  AND {_no_member("pg_class", "c.oid")}
UNION ALL
SELECT 'policy', ARRAY[n.nspname, c.relname, p.polname]::text[], '',
  jsonb_build_array(p.polcmd, p.polpermissive,
    (SELECT array_agg(CASE WHEN o = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(o)::text END
      ORDER BY pg_get_userbyid(o)::text COLLATE "C") FROM unnest(p.polroles) o),
    obj_description(p.oid, 'pg_policy')),
  ARRAY[pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)], ''
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_OWN} AND {_no_member("pg_class", "c.oid")}
"""

_FUNCTIONS = f"""
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
  ARRAY[n.nspname, p.proname]::text[],
  format('(%s)', pg_get_function_identity_arguments(p.oid)),
  jsonb_build_array(l.lanname, format_type(p.prorettype, NULL), p.proretset, p.provolatile,
    p.proisstrict, p.prosecdef, p.proleakproof, p.proparallel, p.procost, p.prorows,
    {_sorted("p.proconfig")}, p.prosrc, p.probin, p.proargnames, p.proargmodes,
    p.prosupport::text,
    (SELECT jsonb_build_array(g.aggkind, g.aggnumdirectargs, g.aggtransfn::text, g.aggfinalfn::text,
      g.aggcombinefn::text, format_type(g.aggtranstype, NULL), g.agginitval, g.aggfinalextra,
      g.aggsortop::regoperator::text) FROM pg_aggregate g WHERE g.aggfnoid = p.oid),
    obj_description(p.oid, 'pg_proc')),
  ARRAY[pg_get_expr(p.proargdefaults, 0), pg_get_function_sqlbody(p.oid)],
  {_access("p.proowner", "p.proacl", "f")}
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE {_OWN} AND {_no_member("pg_proc", "p.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass
    AND i.objid = p.oid AND i.deptype = 'i')
"""

_TYPES = f"""
SELECT CASE WHEN t.typtype = 'd' THEN 'domain' ELSE 'type' END,
  ARRAY[n.nspname, t.typname]::text[], '',
  jsonb_build_array(t.typtype,
    (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
     WHERE e.enumtypid = t.oid),
    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, t.typnotnull,
    CASE WHEN t.typtype = 'd' THEN (SELECT l.collname FROM pg_collation l
     WHERE l.oid = t.typcollation) END,
    (SELECT array_agg(a.attname::text || ' ' || format_type(a.atttypid, a.atttypmod)
      ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid),
    CASE WHEN t.typtype = 'b' THEN jsonb_build_array(t.typlen, t.typbyval, t.typcategory,
      t.typinput::text, t.typoutput::text, t.typalign, t.typstorage, t.typdefault) END,
    obj_description(t.oid, 'pg_type')),
  ARRAY[pg_get_expr(t.typdefaultbin, 0)],
  {_access("t.typowner", "t.typacl", "T")}
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typtype IN ('e', 'd', 'c', 'b', 'r') AND {_OWN} AND (c.oid IS NULL OR c.relkind = 'c')
  AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = t.oid)
  AND {_no_member("pg_type", "t.oid")}
"""

_SEQUENCES = f"""
SELECT 'sequence', ARRAY[n.nspname, c.relname]::text[], '',
  jsonb_build_array(c.relpersistence, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement,
    s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
    (SELECT array_agg(format('%s.%s.%s', tn.nspname, t.relname, a.attname))
     FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid
     JOIN pg_namespace tn ON tn.oid = t.relnamespace
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
       AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')),
    obj_description(c.oid, 'pg_class')),
  ARRAY[]::text[], {_access("c.relowner", "c.relacl", "s")}
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {_OWN} AND {_no_member("pg_class", "c.oid")}
"""


def _others(catalog: str, facts: str = "NULL", expression: str = "NULL") -> str:
    """Return the query for a catalog whose objects rarely are a user's own."""
    return f"""
SELECT (pg_identify_object('{catalog}'::regclass, o.oid, 0)).type, ARRAY[]::text[],
  (pg_identify_object('{catalog}'::regclass, o.oid, 0)).identity,
  jsonb_build_array({facts}, obj_description(o.oid, '{catalog}')), ARRAY[{expression}]::text[], ''
FROM {catalog} o WHERE o.oid >= 16384 AND {_no_member(catalog, "o.oid")}
"""


_OTHERS = "UNION ALL".join(
    (
        _others("pg_operator", "o.oprcode::text, o.oprcanmerge, o.oprcanhash"),
        _others("pg_opclass", "o.opcdefault"),
        _others("pg_opfamily"),
        _others("pg_conversion", "o.conproc::text, o.condefault"),
        _others("pg_collation", "o.collprovider, o.collisdeterministic, o.collcollate"),
        _others("pg_cast", "o.castcontext, o.castmethod, o.castfunc::regprocedure::text"),
        _others("pg_transform", "o.trffromsql::regprocedure::text"),
        _others("pg_language", "o.lanpltrusted"),
        _others("pg_am", "o.amtype, o.amhandler::text"),
        _others("pg_ts_config"),
        _others("pg_ts_dict", "o.dictinitoption"),
        _others("pg_ts_parser"),
        _others("pg_ts_template"),
        _others("pg_foreign_data_wrapper", "o.fdwoptions"),
        _others("pg_foreign_server", "o.srvtype, o.srvversion, o.srvoptions"),
        _others(
            "pg_event_trigger", "o.evtevent, o.evtenabled, o.evttags, o.evtfoid::regproc::text"
        ),
        _others("pg_statistic_ext", "o.stxkind", "pg_get_statisticsobjdef(o.oid)"),
        _others(
            "pg_publication",
            "o.puballtables, o.pubinsert, o.pubupdate, o.pubdelete, o.pubtruncate, o.pubviaroot,"
            " (SELECT array_agg(p.schemaname || '.' || p.tablename"
            "  ORDER BY p.schemaname, p.tablename)"
            " FROM pg_publication_tables p WHERE p.pubname = o.pubname AND NOT o.puballtables)",
        ),
    )
)

_DEFAULT_ACCESS = f"""
SELECT 'default privileges', ARRAY[pg_get_userbyid(d.defaclrole)::text]
    || coalesce(n.nspname::text, '*'), ' ' || d.defaclobjtype::text, jsonb_build_array(),
  ARRAY[]::text[], {_grants("d.defaclacl")}
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
"""

QUERIES = (
    _SCHEMAS,
    _RELATIONS,
    _COLUMNS,
    _CONSTRAINTS,
    _INDEXES,
    _TRIGGERS,
    _FUNCTIONS,
    _TYPES,
    _SEQUENCES,
    _OTHERS,
    _DEFAULT_ACCESS,
)
