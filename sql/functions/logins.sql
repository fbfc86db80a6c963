-- Logins: what happens before it is known which hospital a request belongs to.
--
-- The application's role sees the rows of one hospital at a time, and here there is none yet. So
-- these functions run with the rights of their owner; each does one thing, for one user name, one
-- account or one token. Who may call them: sql/roles/clinic_app.sql.
--
-- They use now(), the time at which the transaction began: each is a transaction of its own.

-- What a login is checked against. A user name that does not exist gives no row. `is_active` is
-- whether the account, its person and its hospital are, and no administrator has locked it.
CREATE OR REPLACE FUNCTION public.account_for_login(p_username text)
    RETURNS TABLE (user_id uuid, hospital_id uuid, username text, password_hash text,
                   is_active boolean, name text, staff_id uuid, patient_id uuid)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT u.user_id, u.hospital_id, u.username, u.password_hash, is_account_active(u.user_id),
           coalesce(s.first_name || ' ' || s.last_name, p.first_name || ' ' || p.last_name),
           u.staff_id, u.patient_id
    FROM users u
    LEFT JOIN staff s ON s.staff_id = u.staff_id
    LEFT JOIN patients p ON p.patient_id = u.patient_id
    WHERE u.username = p_username;
END
$$;

CREATE OR REPLACE FUNCTION public.is_account_active(p_user_id uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT
        FROM users u
        JOIN hospitals h ON h.hospital_id = u.hospital_id
        LEFT JOIN staff s ON s.staff_id = u.staff_id
        LEFT JOIN patients p ON p.patient_id = u.patient_id
        WHERE u.user_id = p_user_id AND u.is_active AND h.is_active
          AND coalesce(u.locked_until <= now(), true)
          AND coalesce(s.left_on >= current_date, true)
          AND coalesce(p.is_active, true)
    );
END
$$;

-- A line of login_history; the account is that of the user name, if there is one.
CREATE OR REPLACE FUNCTION public.record_login
    (p_username text, p_user_id uuid, p_failure text, p_address inet, p_agent text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    INSERT INTO login_history (user_id, username, failure, ip_address, user_agent)
    VALUES (p_user_id, p_username, p_failure, p_address, p_agent);
END
$$;

-- After a login: its time and, where a hash of today's parameters was made, that hash. login_history
-- has the login; the audit log need not repeat it. False, and nothing is written, where the hash is
-- not the one any more that the password was compared with: a change of the password that was
-- committed meanwhile counts.
CREATE OR REPLACE FUNCTION public.login_succeeded
    (p_user_id uuid, p_verified_hash text, p_renewed_hash text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    -- the function cannot have it as a SET of its own: those of such variables are for superusers
    audit constant text := coalesce(current_setting('clinic.audit', true), '');
    is_current boolean;
BEGIN
    PERFORM set_config('clinic.audit', 'off', true);
    PERFORM set_config('clinic.user', u.username, true) FROM users u WHERE u.user_id = p_user_id;
    UPDATE users u
    SET last_login_at = now(), failed_logins = 0,
        password_hash = coalesce(p_renewed_hash, u.password_hash)
    WHERE u.user_id = p_user_id AND u.password_hash = p_verified_hash;
    is_current := FOUND;
    PERFORM set_config('clinic.audit', audit, true);
    RETURN is_current;
END
$$;

-- Where one can register: the open branches of the open hospitals.
CREATE OR REPLACE FUNCTION public.registration_places()
    RETURNS TABLE (hospital_id uuid, hospital text, branch_id uuid, branch text, city text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT h.hospital_id, h.name, b.branch_id, b.name, b.city
    FROM hospitals h JOIN branches b ON b.hospital_id = h.hospital_id
    WHERE h.is_active AND b.is_active
    ORDER BY h.name, b.name, b.branch_id;
END
$$;

REVOKE EXECUTE ON FUNCTION public.account_for_login(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.record_login(text, uuid, text, inet, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.login_succeeded(uuid, text, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.registration_places() FROM PUBLIC;
