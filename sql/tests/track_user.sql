-- Who made and who changed a hospital, and that no table is left out.

SELECT set_config('clinic.user', 'a.schmidt', true);

INSERT INTO public.hospitals (code, name, license_no, email, created_by, updated_by)
VALUES ('TEST', 'One', 'TEST', 'a@example.org', 'alice', 'alice');

-- nobody writes in the name of another
-- expect: row a.schmidt | a.schmidt
SELECT created_by, updated_by FROM public.hospitals WHERE code = 'TEST';

SELECT set_config('clinic.user', '', true);

UPDATE public.hospitals SET created_by = 'bob', updated_by = 'bob' WHERE code = 'TEST';

-- without a setting it is who logged in; created_by stays
SELECT created_by = 'a.schmidt' AND updated_by = session_user
FROM public.hospitals WHERE code = 'TEST';

-- every table with both columns has the trigger
-- expect: rows 0
SELECT c.relname
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
    AND 2 = (SELECT count(*) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attname IN ('created_by', 'updated_by'))
    AND NOT EXISTS (SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgfoid = 'public.track_user()'::regprocedure);
