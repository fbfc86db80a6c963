-- write_audit_log(KEY): notes in audit_logs what became of a row; KEY names the key column.
--
-- Clock: clock_timestamp(), since several changes of one row in one transaction must keep their
-- order; now() would give all of them the time at which the transaction began.
--
-- Who: as in track_user(). Tables without a hospital_id leave it null.
--
-- SECURITY DEFINER, so that the application needs no right to write to audit_logs and cannot
-- forge or remove entries. For the same reason nobody else may hang this function on a table of
-- their own: EXECUTE, which CREATE TRIGGER asks for and firing does not, is taken from PUBLIC.
--
-- TRUNCATE fires no row trigger: do not grant it to the application.

-- Secrets go by their name, at any depth, so that a column that is added later is left out
-- without anybody having to remember this place.
CREATE OR REPLACE FUNCTION public.without_secrets(value jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    secret constant text := 'password|passwd|passphrase|token|secret|api_?key|private_?key';
BEGIN
    -- most values hold nothing of the kind, and one look at the text is quicker than a walk
    IF value::text !~* secret THEN
        RETURN value;
    END IF;
    CASE jsonb_typeof(value)
        WHEN 'object' THEN
            RETURN (
                SELECT coalesce(jsonb_object_agg(e.key, without_secrets(e.value)), '{}')
                FROM jsonb_each(value) e
                WHERE e.key !~* secret
            );
        WHEN 'array' THEN
            RETURN (
                SELECT jsonb_agg(without_secrets(e.value) ORDER BY e.ordinality)
                FROM jsonb_array_elements(value) WITH ORDINALITY e
            );
        ELSE
            RETURN value;
    END CASE;
END
$$;

CREATE OR REPLACE FUNCTION public.write_audit_log() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    before constant jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after constant jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    latest constant jsonb := coalesce(after, before);
    changed text[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- names alone: that a password changed is worth knowing, what it became is not
        SELECT array_agg(e.key ORDER BY e.key COLLATE "C") INTO changed
        FROM jsonb_each(after) e
        WHERE e.value IS DISTINCT FROM before -> e.key;
    END IF;

    INSERT INTO public.audit_logs
        (logged_at, hospital_id, table_name, row_id, action, actor, changed, old_row, new_row)
    VALUES (
        clock_timestamp(),
        (latest ->> 'hospital_id')::uuid,
        TG_TABLE_NAME,
        (latest ->> TG_ARGV[0])::uuid,
        TG_OP,
        coalesce(nullif(current_setting('clinic.user', true), ''), session_user),
        changed,
        without_secrets(before),
        without_secrets(after)
    );
    RETURN NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION public.write_audit_log() FROM PUBLIC;
