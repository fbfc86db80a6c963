-- @function@(): keeps @created@ and @updated@ true.
--
-- INSERT  What is given stays: a restore, a copy or a seed brings its history along. What is null
--         becomes the time.
-- UPDATE  @created@ stays what it was and @updated@ always moves, whatever the client sends.
--
-- Clock: @why@.

CREATE OR REPLACE FUNCTION public.@function@() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.@created@ := coalesce(NEW.@created@, @clock@);
        NEW.@updated@ := coalesce(NEW.@updated@, NEW.@created@);
    ELSE
        NEW.@created@ := OLD.@created@;
        NEW.@updated@ := @clock@;
    END IF;
    RETURN NEW;
END
$$;
