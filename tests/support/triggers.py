"""A trigger and its function."""

from __future__ import annotations

TOUCH = """-- what a note gets
CREATE OR REPLACE FUNCTION touch() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.at := now(); -- ü 🐘
    RETURN NEW;
END
$$;
"""


ON_NOTES = """
CREATE OR REPLACE TRIGGER touch
    BEFORE INSERT OR UPDATE ON notes
    FOR EACH ROW EXECUTE FUNCTION touch();
"""
