-- track_user(): keeps created_by and updated_by true.
--
-- Who: the session setting clinic.user, which the application sets in each transaction:
--   SELECT set_config('clinic.user', 'a.schmidt', true)
-- (in SET the word user needs quotes: SET LOCAL clinic."user" = ...). Where it is not set, the role
-- that logged in. That is session_user: SET ROLE changes current_user, but not who somebody is.
--
-- INSERT  The setting overrules what is given, so that nobody writes in another's name. Without
--         the setting what is given stays: a restore, a copy or a seed brings its names along.
-- UPDATE  created_by stays what it was; updated_by is always whoever does it.
--
-- Uses no clock. A setting that was local to a transaction reads as '' afterwards, not as null.

CREATE OR REPLACE FUNCTION public.track_user() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named constant text := nullif(current_setting('clinic.user', true), '');
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.created_by := coalesce(named, NEW.created_by, session_user);
        NEW.updated_by := coalesce(named, NEW.updated_by, NEW.created_by);
    ELSE
        NEW.created_by := OLD.created_by;
        NEW.updated_by := coalesce(named, session_user);
    END IF;
    RETURN NEW;
END
$$;
