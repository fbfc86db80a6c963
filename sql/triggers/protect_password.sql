-- Passwords. BEFORE INSERT OR UPDATE, never "UPDATE OF password_hash": that would not fire when
-- another trigger changes the column.

CREATE OR REPLACE TRIGGER protect_password
    BEFORE INSERT OR UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION public.protect_password();
