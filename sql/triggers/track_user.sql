-- Who made and who changed a row, on every table that has created_by and updated_by.

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.hospitals
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.branches
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.staff
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.patients
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.role_master
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.module_master
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.role_module_access
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.user_role_mapping
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.appointments
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.consultations
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.prescriptions
    FOR EACH ROW EXECUTE FUNCTION public.track_user();

CREATE OR REPLACE TRIGGER track_user
    BEFORE INSERT OR UPDATE ON public.invoices
    FOR EACH ROW EXECUTE FUNCTION public.track_user();
