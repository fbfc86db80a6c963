-- A line of security_events. The application may add to that log and not change it, and an event may
-- be nobody's or of no hospital; see logins.sql for why it runs with the rights of its owner.

CREATE OR REPLACE FUNCTION public.record_event
    (p_event text, p_user_id uuid, p_hospital_id uuid, p_username text, p_address inet,
     p_agent text, p_details jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    INSERT INTO security_events
        (event, user_id, hospital_id, username, ip_address, user_agent, details)
    VALUES (p_event, p_user_id, p_hospital_id, p_username, p_address, p_agent,
            without_secrets(p_details));
END
$$;

REVOKE EXECUTE ON FUNCTION public.record_event(text, uuid, uuid, text, inet, text, jsonb) FROM PUBLIC;
