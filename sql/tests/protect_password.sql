-- No plain-text password reaches a table. The function is tried on a table like users, whose
-- constraints are not the point here.

CREATE TEMP TABLE accounts (name text, password_hash text) ON COMMIT DROP;
CREATE TRIGGER protect_password BEFORE INSERT OR UPDATE ON accounts
    FOR EACH ROW EXECUTE FUNCTION public.protect_password();

INSERT INTO accounts VALUES ('bcrypt', '$2b$12$' || repeat('a', 53)), ('nobody', NULL);

-- a hash passes as it is
SELECT password_hash = '$2b$12$' || repeat('a', 53) FROM accounts WHERE name = 'bcrypt';

-- a hash of an unknown format is refused
-- expect: error 23514 unknown format
INSERT INTO accounts VALUES ('md5', '$1$salt$' || repeat('a', 22));

-- an empty password is refused
-- expect: error 23514 empty password
UPDATE accounts SET password_hash = ' ';

-- so is one that bcrypt would cut
-- expect: error 23514
UPDATE accounts SET password_hash = repeat('x', 73);

-- users have the trigger
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.users'::regclass
    AND tgfoid = 'public.protect_password()'::regprocedure AND tgenabled = 'O');
