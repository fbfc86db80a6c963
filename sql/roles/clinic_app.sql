-- The role that the web application acts as, and all that it may do. setup, db.reset and migrate.up
-- run this file.
--
-- The role is the server's, so no backup brings it along. Where the owner of the database may not
-- create roles, an administrator of the server does it before, once:
--
--   CREATE ROLE clinic_app NOLOGIN; GRANT clinic_app TO the_owner;
--
-- The application connects as the environment's user and acts as this role (`pool.role` in the
-- environment). A wall of its own it has only with a login of its own, which cannot take back the
-- role: CREATE ROLE clinic_web LOGIN PASSWORD '...' IN ROLE clinic_app.
--
-- What is not here it may not do. Every table is named, so that none is forgotten.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'clinic_app') THEN
        CREATE ROLE clinic_app NOLOGIN;
        GRANT clinic_app TO current_user;
    ELSIF NOT pg_catalog.pg_has_role(current_user, 'clinic_app', 'MEMBER') THEN
        GRANT clinic_app TO current_user;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO clinic_app;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM clinic_app;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM clinic_app;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM clinic_app;

-- Which columns of a table: a list leaves out what the application need not see or write.
-- Nothing may be deleted but the role of a user; an appointment is cancelled, an account disabled,
-- and forget_history() alone lets old sessions and logs go.

-- the rows of the hospital of the transaction (row-level security)
GRANT SELECT ON public.hospitals, public.branches, public.staff TO clinic_app;
GRANT SELECT, INSERT, UPDATE ON public.patients TO clinic_app;
GRANT SELECT, INSERT, UPDATE ON public.appointments TO clinic_app;
GRANT SELECT, INSERT, UPDATE ON public.consultations TO clinic_app;
GRANT SELECT, INSERT, UPDATE ON public.prescriptions TO clinic_app;
GRANT SELECT, INSERT, UPDATE ON public.invoices TO clinic_app;
GRANT USAGE ON SEQUENCE public.invoices_invoice_no_seq TO clinic_app;
-- accounts; the hash of a password can be written and not be read. Patients register, accounts of
-- staff come from elsewhere, and nobody gets another name, person or hospital
GRANT SELECT (user_id, hospital_id, staff_id, patient_id, username, failed_logins, locked_until,
              last_login_at, is_active, created_at, updated_at, created_by, updated_by),
      INSERT (hospital_id, patient_id, username, password_hash),
      UPDATE (password_hash, is_active) ON public.users TO clinic_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.user_role_mapping TO clinic_app;
-- sessions are opened by start_session() alone, their tokens changed by rotate_refresh_token(); what
-- has ended stays so (a policy)
GRANT SELECT (session_id, user_id, issued_at, expires_at, revoked_at, ip_address, user_agent, kind,
              last_seen_at, remembered),
      UPDATE (revoked_at) ON public.user_sessions TO clinic_app;
REVOKE ALL ON public.refresh_tokens FROM clinic_app;
-- logs are read; record_login(), record_event() and the audit trigger write them
GRANT SELECT ON public.login_history, public.security_events, public.audit_logs TO clinic_app;
-- the same for all hospitals
GRANT SELECT ON public.role_master, public.module_master, public.role_module_access TO clinic_app;
-- of nobody
GRANT SELECT, INSERT, UPDATE, DELETE ON public.login_throttle, public.rate_limits TO clinic_app;
-- the check of health compares it with the migrations
GRANT SELECT ON public.alembic_version TO clinic_app;

GRANT EXECUTE ON FUNCTION
    public.clinic_hospital(),
    public.account_for_login(text),
    public.record_login(text, uuid, text, inet, text),
    public.login_succeeded(uuid, text, text),
    public.registration_places(),
    public.start_session(uuid, text, text, text, text, interval, boolean, inet, text),
    public.session_account(text, text, uuid, interval),
    public.touch_session(uuid, interval),
    public.rotate_refresh_token(text, text),
    public.end_session_of_refresh_token(text),
    public.record_event(text, uuid, uuid, text, inet, text, jsonb),
    public.forget_history(interval)
TO clinic_app;
