-- @function@(KEY...): notes in public.audit_log what became of a row; KEY are its key columns.
--
-- Clock: @why@.
-- Who: the setting @setting@, which the application sets in each transaction, or else the role that
-- logged in. Secrets are left out by their name, at the top level of a row.
--
-- SECURITY DEFINER, so that the application needs no right to write to public.audit_log. For the
-- same reason nobody else may attach this function to a table of their own. TRUNCATE fires no row
-- trigger: do not grant it to the application.

CREATE TABLE IF NOT EXISTS public.audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    logged_at timestamptz NOT NULL,
    table_name text NOT NULL,
    row_key jsonb NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    changed text[],
    old_row jsonb,
    new_row jsonb
);

CREATE OR REPLACE FUNCTION public.@function@() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    secret constant text := 'password|passwd|passphrase|token|secret|api_?key|private_?key';
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    latest constant jsonb := coalesce(after, before);
    changed text[];
    hidden text[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- names alone: that a password changed is worth knowing, what it became is not
        SELECT array_agg(e.key ORDER BY e.key COLLATE "C") INTO changed
        FROM jsonb_each(after) e
        WHERE e.value IS DISTINCT FROM before -> e.key;
    END IF;
    SELECT coalesce(array_agg(k), '{}') INTO hidden
    FROM jsonb_object_keys(latest) k WHERE k ~* secret;

    INSERT INTO public.audit_log
        (logged_at, table_name, row_key, action, actor, changed, old_row, new_row)
    VALUES (
        @clock@,
        format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
        (SELECT coalesce(jsonb_object_agg(k, latest -> k), '{}') FROM unnest(TG_ARGV) k),
        TG_OP,
        coalesce(nullif(current_setting('@setting@', true), ''), session_user),
        changed,
        before - hidden,
        after - hidden
    );
    RETURN NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION public.@function@() FROM PUBLIC;
