-- Tables whose changes the audit log would miss: the trigger of sql/triggers/write_audit_log.sql is
-- missing, or switched off.
SELECT audited.name
FROM unnest(ARRAY['hospitals', 'branches', 'staff', 'patients', 'users', 'user_sessions',
    'appointments', 'consultations', 'prescriptions', 'invoices']) AS audited (name)
WHERE NOT EXISTS (
    SELECT FROM pg_trigger
    WHERE tgrelid = to_regclass('public.' || audited.name)
        AND tgname = 'write_audit_log' AND tgenabled IN ('O', 'A'));
