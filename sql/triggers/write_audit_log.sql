-- The audit log. user_sessions is in it, login_history (a log itself) is not.
--
-- The session setting clinic.audit = 'off' is for loads and seeds. It is asked in WHEN and not in
-- the function: an event that WHEN declines is not even queued, which a load of a million rows
-- notices. Whoever may write may also set it: an audit log that has to hold against the
-- application itself needs another kind of wall.

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.hospitals
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('hospital_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.branches
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('branch_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.staff
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('staff_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.patients
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('patient_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.users
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('user_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.user_sessions
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('session_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.role_master
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('role_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.module_master
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('module_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.role_module_access
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('access_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.user_role_mapping
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('mapping_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.appointments
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('appointment_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.consultations
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('consultation_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.prescriptions
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('prescription_id');

CREATE OR REPLACE TRIGGER write_audit_log
    AFTER INSERT OR UPDATE OR DELETE ON public.invoices
    FOR EACH ROW WHEN (current_setting('clinic.audit', true) IS DISTINCT FROM 'off')
    EXECUTE FUNCTION public.write_audit_log('invoice_id');
