-- What the audit log says of a hospital.

INSERT INTO public.hospitals (code, name, license_no, email)
VALUES ('TEST', 'One', 'TEST', 'a@example.org');
UPDATE public.hospitals SET phone = '1' WHERE code = 'TEST';
DELETE FROM public.hospitals WHERE code = 'TEST';

-- an entry for each change, in order
-- expect: row INSERT | hospitals
-- expect: row UPDATE | hospitals
-- expect: row DELETE | hospitals
SELECT action, table_name FROM public.audit_logs
WHERE coalesce(new_row, old_row) ->> 'code' = 'TEST' ORDER BY logged_at;

-- an UPDATE names the columns that changed
SELECT changed @> ARRAY['phone'] AND NOT changed @> ARRAY['name']
FROM public.audit_logs WHERE new_row ->> 'code' = 'TEST' AND action = 'UPDATE';

-- secrets are left out, at any depth
-- expect: row {"a": [{"b": 1}]}
SELECT public.without_secrets('{"a": [{"b": 1, "api_key": "x"}], "password_hash": "y"}');

SELECT set_config('clinic.audit', 'off', true);
INSERT INTO public.hospitals (code, name, license_no, email)
VALUES ('QUIET', 'Two', 'QUIET', 'b@example.org');

-- a load may switch it off
-- expect: rows 0
SELECT action FROM public.audit_logs WHERE new_row ->> 'code' = 'QUIET';

-- nobody may attach the function to a table of their own
SELECT NOT has_function_privilege('public', 'public.write_audit_log()', 'EXECUTE');
