-- What is over goes, a part at a time: the application calls this now and then, and may delete none of
-- it by itself. Returns how many rows went. Two that run at once take different rows.
--
-- At least 30 days are kept, whatever is asked for: who brings SQL into the application must not
-- erase the traces of that. A session goes when it has been past its time for so long, also one that
-- was revoked before. Its refresh tokens went long before: past its time no token says anything, and
-- until then each used one is needed, since it may come a second time.
CREATE OR REPLACE FUNCTION public.forget_history(p_keep interval) RETURNS bigint
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    most constant integer := 2000;  -- rows of each table
    before constant timestamptz := now() - greatest(p_keep, interval '30 days');
    -- the function cannot have it as a SET of its own: those of such variables are for superusers
    audit constant text := coalesce(current_setting('clinic.audit', true), '');
    gone bigint := 0;
    part bigint;
BEGIN
    PERFORM set_config('clinic.audit', 'off', true);  -- it would keep what goes
    DELETE FROM refresh_tokens t WHERE t.token_hash IN (
        SELECT o.token_hash FROM refresh_tokens o WHERE o.expires_at < now() - interval '1 day'
        ORDER BY o.expires_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS part = ROW_COUNT;
    gone := gone + part;
    DELETE FROM user_sessions n WHERE n.session_id IN (
        SELECT o.session_id FROM user_sessions o
        WHERE o.expires_at < before
          AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = o.session_id)
        ORDER BY o.expires_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS part = ROW_COUNT;
    gone := gone + part;
    DELETE FROM login_history l WHERE l.login_id IN (
        SELECT o.login_id FROM login_history o WHERE o.attempted_at < before
        ORDER BY o.attempted_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS part = ROW_COUNT;
    gone := gone + part;
    DELETE FROM security_events e WHERE e.event_id IN (
        SELECT o.event_id FROM security_events o WHERE o.occurred_at < before
        ORDER BY o.occurred_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS part = ROW_COUNT;
    PERFORM set_config('clinic.audit', audit, true);
    RETURN gone + part;
END
$$;

REVOKE EXECUTE ON FUNCTION public.forget_history(interval) FROM PUBLIC;
