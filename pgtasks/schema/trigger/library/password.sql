-- @function@(): no plain-text password reaches the column @column@.
--
-- A hash in an accepted format passes as it is. Anything else is taken for plain text: hashed
-- with bcrypt where pgcrypto is installed, in whichever schema, and refused where it is not.
-- What looks like a hash of another kind is refused in either case: hashed once more it would
-- be safe, but nobody could ever log in with it.
--
-- No error here contains what was given. What the server adds of its own may: the log gets the
-- statement that failed, and COPY quotes the line it failed at. So send passwords as bound
-- parameters and never in a file; or better, send hashes.
--

CREATE OR REPLACE FUNCTION public.@function@() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given constant text := NEW.@column@;
    accepted constant text[] := ARRAY[
        -- bcrypt, cost 4 to 31; $2$ and $2x$ are of broken implementations
        '^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$',
        -- argon2, as the reference implementation prints it
        '^\$argon2(id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}$',
        -- scrypt and pbkdf2 as Werkzeug prints them
        '^scrypt:[0-9]+:[0-9]+:[0-9]+\$[A-Za-z0-9]{8,}\$[0-9a-f]{128}$',
        '^pbkdf2:sha(1|256|512):[0-9]{4,}\$[A-Za-z0-9]{8,}\$([0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$',
        -- scrypt and pbkdf2 as passlib prints them
        '^\$scrypt\$ln=[0-9]+,r=[0-9]+,p=[0-9]+\$[A-Za-z0-9./+]{11,}\$[A-Za-z0-9./+]{43}$',
        '^\$pbkdf2(-sha256|-sha512)?\$[0-9]{4,}\$[A-Za-z0-9./]{11,}\$[A-Za-z0-9./]{27,86}$'
    ];
    crypto_schema name;
BEGIN
    -- null is for the NOT NULL constraint to refuse
    IF given IS NULL OR given ~ ANY (accepted) THEN
        RETURN NEW;
    END IF;

    IF given ~ '^(\$[a-z0-9-]+\$|(bcrypt|argon2|scrypt|pbkdf2)[a-z0-9_]*[:$])' THEN
        RAISE EXCEPTION 'password hash of an unknown format refused'
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  COLUMN = '@text@',
                  HINT = 'Accepted are bcrypt, argon2, and scrypt or pbkdf2 as Werkzeug and passlib print them.';
    END IF;

    -- bcrypt ignores what follows the 72nd byte: two long passwords would be the same one
    IF btrim(given) = '' OR octet_length(given) > 72 THEN
        RAISE EXCEPTION 'empty password, or one of more than 72 bytes, refused'
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  COLUMN = '@text@';
    END IF;

    SELECT n.nspname INTO crypto_schema
    FROM pg_extension e
    JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pgcrypto';

    IF crypto_schema IS NULL THEN
        RAISE EXCEPTION 'plain-text password refused'
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  COLUMN = '@text@',
                  HINT = 'Hash it in the application, or install pgcrypto to have it hashed here.';
    END IF;

    -- gen_salt's own default is a cost of 6, which is not much any more
    EXECUTE format('SELECT %1$I.crypt($1, %1$I.gen_salt(''bf'', 10))', crypto_schema)
        INTO NEW.@column@ USING given;
    RETURN NEW;
END
$$;
