-- Sessions and their tokens. The rows decide; a cookie and a token only name them, and only the
-- SHA-256 of what they hold is here. Why these functions run with the rights of their owner is said
-- in logins.sql.

-- Open a session for an account that has just logged in; with a refresh token for a program.
-- No row where the account has been switched off meanwhile, or its password is not the one any more
-- whose hash the login was checked against. What does that waits for this, and then ends the session.
CREATE OR REPLACE FUNCTION public.start_session
    (p_user_id uuid, p_verified_hash text, p_kind text, p_token_hash text, p_refresh_hash text,
     p_lifetime interval, p_remembered boolean, p_address inet, p_agent text)
    RETURNS TABLE (session_id uuid, expires_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    made record;
BEGIN
    PERFORM FROM users u WHERE u.user_id = p_user_id AND u.password_hash = p_verified_hash FOR SHARE;
    IF NOT FOUND OR NOT is_account_active(p_user_id) THEN
        RETURN;
    END IF;
    PERFORM set_config('clinic.user', u.username, true) FROM users u WHERE u.user_id = p_user_id;
    INSERT INTO user_sessions AS n
        (user_id, kind, token_hash, expires_at, remembered, ip_address, user_agent)
    VALUES (p_user_id, p_kind, p_token_hash, now() + p_lifetime, p_remembered, p_address, p_agent)
    RETURNING n.session_id, n.expires_at INTO made;
    IF p_refresh_hash IS NOT NULL THEN
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        VALUES (p_refresh_hash, made.session_id, made.expires_at);
    END IF;
    session_id := made.session_id;
    expires_at := made.expires_at;
    RETURN NEXT;
END
$$;

-- Who a session is of, in one round trip: the account, its roles, and what they allow. By the hash
-- of its token (a browser's) or by its ID (that of a verified access token). No row where it is
-- unknown, revoked, past its time, idle for too long, or where the account is switched off.
--
-- Sets clinic.user and clinic.hospital to the end of the transaction: triggers and row-level
-- security know from here on who it is.
CREATE OR REPLACE FUNCTION public.session_account
    (p_kind text, p_token_hash text, p_session_id uuid, p_idle interval)
    RETURNS TABLE (user_id uuid, hospital_id uuid, session_id uuid, username text, name text,
                   staff_id uuid, patient_id uuid, roles text[], permissions text[], kind text,
                   expires_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    SELECT u.user_id, u.hospital_id, n.session_id, u.username,
           coalesce(s.first_name || ' ' || s.last_name, p.first_name || ' ' || p.last_name),
           u.staff_id, u.patient_id, n.kind, n.expires_at
    INTO user_id, hospital_id, session_id, username, name, staff_id, patient_id, kind, expires_at
    FROM user_sessions n
    JOIN users u ON u.user_id = n.user_id
    LEFT JOIN staff s ON s.staff_id = u.staff_id
    LEFT JOIN patients p ON p.patient_id = u.patient_id
    WHERE (n.token_hash = p_token_hash OR n.session_id = p_session_id)
      AND n.kind = p_kind AND n.revoked_at IS NULL AND n.expires_at > now()
      AND (n.remembered OR p_idle IS NULL OR n.last_seen_at > now() - p_idle)
      AND is_account_active(u.user_id);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(DISTINCT r.code), '{}'),
           coalesce(array_agg(DISTINCT m.code || '.' || action.name)
                    FILTER (WHERE action.allowed), '{}')
    INTO roles, permissions
    FROM user_role_mapping g
    JOIN role_master r ON r.role_id = g.role_id
    LEFT JOIN role_module_access a ON a.role_id = r.role_id
    LEFT JOIN module_master m ON m.module_id = a.module_id
    LEFT JOIN LATERAL (VALUES
        ('view', a.can_view), ('add', a.can_add), ('edit', a.can_edit), ('delete', a.can_delete),
        ('export', a.can_export)) AS action (name, allowed) ON true
    WHERE g.user_id = session_account.user_id AND g.is_active;
    PERFORM set_config('clinic.user', username, true),
            set_config('clinic.hospital', hospital_id::text, true);
    RETURN NEXT;
END
$$;

-- The session is in use, if it was not seen for `p_after`. No change of anything: not in the audit
-- log.
CREATE OR REPLACE FUNCTION public.touch_session(p_session_id uuid, p_after interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    -- the function cannot have it as a SET of its own: those of such variables are for superusers
    audit constant text := coalesce(current_setting('clinic.audit', true), '');
BEGIN
    PERFORM set_config('clinic.audit', 'off', true);
    UPDATE user_sessions n SET last_seen_at = now()
    WHERE n.session_id = p_session_id AND n.last_seen_at <= now() - p_after;
    PERFORM set_config('clinic.audit', audit, true);
END
$$;

-- Exchange a refresh token for the next one. `outcome` is
--   rotated    the new one counts, as long as the session does
--   invalid    unknown, or of a session or an account that has ended
--   just_used  used less than 10 seconds ago: by another tab, or a request that was sent twice
--   reused     used before that: somebody has a copy, and the session with all its tokens is revoked
-- Of clients that race for one token, one gets `rotated`: the others wait for the row, and find it
-- used. clock_timestamp() for the same reason: they may have begun long before.
CREATE OR REPLACE FUNCTION public.rotate_refresh_token
    (p_token_hash text, p_next_hash text,
     OUT outcome text, OUT session_id uuid, OUT user_id uuid, OUT hospital_id uuid,
     OUT username text, OUT expires_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    used timestamptz;
    is_open boolean;
BEGIN
    outcome := 'invalid';
    SELECT t.used_at INTO used FROM refresh_tokens t WHERE t.token_hash = p_token_hash FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT n.session_id, n.expires_at, u.user_id, u.hospital_id, u.username,
           n.revoked_at IS NULL AND n.expires_at > clock_timestamp() AND t.expires_at > clock_timestamp()
               AND is_account_active(u.user_id)
    INTO session_id, expires_at, user_id, hospital_id, username, is_open
    FROM refresh_tokens t
    JOIN user_sessions n ON n.session_id = t.session_id
    JOIN users u ON u.user_id = n.user_id
    WHERE t.token_hash = p_token_hash
    FOR UPDATE OF n;
    IF NOT is_open THEN
        RETURN;
    END IF;
    PERFORM set_config('clinic.user', username, true);
    IF used > clock_timestamp() - interval '10 seconds' THEN
        outcome := 'just_used';
    ELSIF used IS NOT NULL THEN
        outcome := 'reused';
        UPDATE user_sessions n SET revoked_at = greatest(clock_timestamp(), n.issued_at)
        WHERE n.session_id = rotate_refresh_token.session_id;
    ELSE
        outcome := 'rotated';
        UPDATE refresh_tokens t SET used_at = greatest(clock_timestamp(), t.issued_at)
        WHERE t.token_hash = p_token_hash;
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        VALUES (p_next_hash, rotate_refresh_token.session_id, rotate_refresh_token.expires_at);
        PERFORM touch_session(rotate_refresh_token.session_id, interval '0');
    END IF;
END
$$;

-- End a session by its refresh token: a logout of a program whose access token has expired.
-- Of one that was used before too: whoever has it may end the session, not go on with it.
CREATE OR REPLACE FUNCTION public.end_session_of_refresh_token(p_token_hash text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM set_config('clinic.user', u.username, true)
    FROM refresh_tokens t
    JOIN user_sessions n ON n.session_id = t.session_id
    JOIN users u ON u.user_id = n.user_id
    WHERE t.token_hash = p_token_hash;
    UPDATE user_sessions n SET revoked_at = greatest(clock_timestamp(), n.issued_at)
    FROM refresh_tokens t
    WHERE t.token_hash = p_token_hash AND n.session_id = t.session_id AND n.revoked_at IS NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION public.start_session
    (uuid, text, text, text, text, interval, boolean, inet, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_account(text, text, uuid, interval) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.touch_session(uuid, interval) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.rotate_refresh_token(text, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.end_session_of_refresh_token(text) FROM PUBLIC;
