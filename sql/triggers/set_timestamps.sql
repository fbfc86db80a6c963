-- Created and updated timestamps on every table that has created_at and updated_at.
-- CREATE OR REPLACE leaves no moment without the trigger (PostgreSQL 14).

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.hospitals
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.branches
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.staff
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.patients
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.role_master
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.module_master
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.role_module_access
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.user_role_mapping
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.appointments
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.consultations
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.prescriptions
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();

CREATE OR REPLACE TRIGGER set_timestamps
    BEFORE INSERT OR UPDATE ON public.invoices
    FOR EACH ROW EXECUTE FUNCTION public.set_timestamps();
