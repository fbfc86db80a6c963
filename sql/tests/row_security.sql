-- Row-level security: no table of a hospital is left out, and nobody but the owner sees past it.

-- every table with a hospital, a user or a session in it has a policy that asks for the hospital
-- (a partition needs none: without one, only the owner reads it by itself)
-- expect: rows 0
SELECT c.relname
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
        AND a.attname IN ('hospital_id', 'user_id', 'session_id'))
    AND NOT (c.relrowsecurity AND (c.relispartition OR EXISTS (SELECT FROM pg_policy p
        WHERE p.polrelid = c.oid
        AND pg_get_expr(p.polqual, p.polrelid) LIKE '%clinic_hospital()%')));

-- the hospital is that of the variable, and none where it is not set
SELECT public.clinic_hospital() IS NULL;
SELECT set_config('clinic.hospital', '00000000-0000-0000-0000-000000000001', true);
SELECT public.clinic_hospital() = '00000000-0000-0000-0000-000000000001';

-- functions that run with the rights of their owner are nobody's without a grant
-- expect: rows 0
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
    AND has_function_privilege('public', p.oid, 'EXECUTE');
