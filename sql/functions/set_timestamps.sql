-- set_timestamps(): keeps created_at and updated_at true.
--
-- INSERT  What is given stays: a restore, a copy or a seed brings its history along. What is null
--         becomes the default, which the column's own DEFAULT cannot do for an explicit null.
-- UPDATE  created_at stays what it was and updated_at always moves, whatever the client sends.
--
-- Clocks: an INSERT uses now(), the start of the transaction, so that rows that came into being
-- together say so. An UPDATE uses clock_timestamp(): now() would stand still at the second update
-- of a transaction, and would go back when an older transaction updates a row after a younger
-- one. This trigger runs with the row locked, so that the wall clock puts its updates in order.
--
-- The search_path is pinned because the caller decides what it is otherwise; pg_temp is named, and
-- last, because it is searched first where it is not named.

CREATE OR REPLACE FUNCTION public.set_timestamps() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.created_at := coalesce(NEW.created_at, now());
        NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
    ELSE
        NEW.created_at := OLD.created_at;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;
