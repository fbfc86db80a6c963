"""Two seed sets and the tables that they fill."""

from __future__ import annotations

from pathlib import Path

from pgtasks.schema.seed.sets import SeedSet, parse

TABLES = """
CREATE TABLE roles (id int PRIMARY KEY, name text);
CREATE TABLE logs (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE logs_new PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
"""


CORE = """-- seed: core
-- environments: any
-- What belongs everywhere.
INSERT INTO roles VALUES (1, 'admin'), (2, 'ü 🐘') ON CONFLICT DO NOTHING;
"""


DEMO = """-- seed: demo
-- scales: small=3 large=50
CREATE TEMP TABLE numbers ON COMMIT DROP AS SELECT generate_series(1, :scale) AS n;
INSERT INTO roles SELECT 100 + n, 'demo' FROM numbers ON CONFLICT DO NOTHING;
"""


def sets(folder: Path, **texts: str) -> dict[str, SeedSet]:
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return {
        name: parse(text, folder / f"{name}.sql", f"{name}.sql") for name, text in texts.items()
    }
