-- A session, from its beginning to its end, and the tokens of its family.

INSERT INTO public.hospitals (code, name, license_no, email)
VALUES ('TEST', 'One', 'TEST', 'a@example.org');
INSERT INTO public.branches (hospital_id, name, address, city, postal_code)
SELECT hospital_id, 'Main', '-', '-', '-' FROM public.hospitals WHERE code = 'TEST';
INSERT INTO public.patients (hospital_id, branch_id, record_no, first_name, last_name, born_on)
SELECT hospital_id, branch_id, 'T1', 'Ada', 'L', '1990-01-01'
FROM public.branches JOIN public.hospitals USING (hospital_id) WHERE code = 'TEST';
INSERT INTO public.users (hospital_id, patient_id, username, password_hash)
SELECT hospital_id, patient_id, 'test.ada', '$2b$12$' || repeat('a', 53)
FROM public.patients JOIN public.hospitals USING (hospital_id) WHERE code = 'TEST';

CREATE TEMP TABLE started ON COMMIT DROP AS
SELECT s.* FROM public.users u, public.start_session
    (u.user_id, u.password_hash, 'api', repeat('a', 64), repeat('b', 64), '1 hour', false, NULL, 'psql') s
WHERE u.username = 'test.ada';

-- the session is that of the user, by its ID and for its kind
-- expect: row test.ada | Ada L
SELECT a.username, a.name
FROM started s, public.session_account('api', NULL, s.session_id, NULL) a;

-- expect: rows 0
SELECT a.username FROM started s, public.session_account('web', NULL, s.session_id, NULL) a;

-- the transaction knows who it is
SELECT current_setting('clinic.user') = 'test.ada'
    AND public.clinic_hospital() = (SELECT hospital_id FROM public.hospitals WHERE code = 'TEST');

-- a refresh token is exchanged once
-- expect: row rotated
SELECT outcome FROM public.rotate_refresh_token(repeat('b', 64), repeat('c', 64));

-- expect: row just_used
SELECT outcome FROM public.rotate_refresh_token(repeat('b', 64), repeat('d', 64));

UPDATE public.refresh_tokens
SET used_at = used_at - interval '11 seconds', issued_at = issued_at - interval '1 minute'
WHERE token_hash = repeat('b', 64);

-- used again after that, it ends the session
-- expect: row reused
SELECT outcome FROM public.rotate_refresh_token(repeat('b', 64), repeat('d', 64));

-- expect: row invalid
SELECT outcome FROM public.rotate_refresh_token(repeat('c', 64), repeat('d', 64));

-- expect: rows 0
SELECT a.username FROM started s, public.session_account('api', NULL, s.session_id, NULL) a;
