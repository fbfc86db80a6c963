-- @function@(): keeps @created@ and @updated@ true.
--
-- Who: the setting @setting@, which the application sets in each transaction:
--   SELECT set_config('@setting@', 'a.schmidt', true)
-- Without it, the role that logged in: SET ROLE does not change who somebody is.
--
-- INSERT  The setting overrules what is given, so that nobody writes in another's name. Without
--         it what is given stays: a restore, a copy or a seed brings its names along.
-- UPDATE  @created@ stays what it was; @updated@ is always whoever does it.

CREATE OR REPLACE FUNCTION public.@function@() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- a setting that was local to a transaction reads as '' afterwards, not as null
    named constant text := nullif(current_setting('@setting@', true), '');
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.@created@ := coalesce(named, NEW.@created@, session_user);
        NEW.@updated@ := coalesce(named, NEW.@updated@, NEW.@created@);
    ELSE
        NEW.@created@ := OLD.@created@;
        NEW.@updated@ := coalesce(named, session_user);
    END IF;
    RETURN NEW;
END
$$;
