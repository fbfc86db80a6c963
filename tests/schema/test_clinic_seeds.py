"""The clinic's seeds: the same rows every time, everywhere, at every size."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from clinics import (
    OWNER,
    ROOT,
    UNSEEDED,
    Clinic,
    Templates,
    apply_triggers,
    cloned,
    content,
    load,
    migrate,
    psql,
)
from schemas import tool
from servers import Cluster

SEED = ROOT / "sql" / "seeds" / "clinic.sql"
SEQUENCE = "SELECT last_value, is_called FROM invoices_invoice_no_seq"


@pytest.fixture
def bare(cluster: Cluster, templates: Templates) -> Iterator[Clinic]:
    with cloned(cluster, templates.bare(cluster)) as made:
        yield made


def test_all_servers_get_the_same_rows(
    cluster: Cluster, cluster18: Cluster, templates: Templates, request: pytest.FixtureRequest
) -> None:
    expected = templates.content(cluster)
    assert templates.content(cluster18) == expected
    system = request.getfixturevalue("system_cluster")
    assert templates.content(system) == expected


def test_no_setting_of_the_session_shows_in_the_rows(bare: Clinic, templates: Templates) -> None:
    options = (
        "-c TimeZone=Asia/Kathmandu -c DateStyle=German,DMY -c IntervalStyle=sql_standard"
        " -c search_path=pg_catalog -c extra_float_digits=-3 -c bytea_output=escape"
        " -c clinic.user=mallory -c clinic.audit=on -c client_encoding=LATIN1"
        " -c enable_hashjoin=off -c enable_nestloop=off -c enable_sort=off"
    )
    load(bare.cluster, bare.name, "core", options=options)
    load(bare.cluster, bare.name, "clinic", options=options)
    expected = templates.content(bare.cluster)
    assert content(bare.cluster, bare.name) == expected


def test_loading_twice_changes_nothing(seeded: Clinic) -> None:
    before = content(seeded.cluster, seeded.name), seeded.run(SEQUENCE)
    load(seeded.cluster, seeded.name, "core")
    load(seeded.cluster, seeded.name, "clinic")
    assert (content(seeded.cluster, seeded.name), seeded.run(SEQUENCE)) == before


def test_a_larger_scale_over_a_smaller_one_is_the_larger_one(bare: Clinic, seeded: Clinic) -> None:
    load(bare.cluster, bare.name, "core")
    load(bare.cluster, bare.name, "clinic", scale=3)
    load(seeded.cluster, seeded.name, "clinic", scale=3)
    assert content(seeded.cluster, seeded.name) == content(bare.cluster, bare.name)
    assert bare.value("SELECT count(*) FROM hospitals") == 3


def test_what_was_changed_since_stays(seeded: Clinic) -> None:
    seeded.run("UPDATE role_master SET name = 'Physician' WHERE code = 'doctor'")
    seeded.run(
        "UPDATE role_module_access SET can_export = false WHERE role_id ="
        " (SELECT role_id FROM role_master WHERE code = 'system_admin')"
    )
    seeded.run("UPDATE patients SET notes = 'moved'")
    seeded.run(
        "INSERT INTO invoices (hospital_id, patient_id, consultation_id, issued_on, due_on, net)"
        " SELECT hospital_id, patient_id, consultation_id, now(), now(), 1 FROM consultations"
        " LIMIT 1"
    )
    before = content(seeded.cluster, seeded.name), seeded.run(SEQUENCE)
    load(seeded.cluster, seeded.name, "core")
    load(seeded.cluster, seeded.name, "clinic")
    assert (content(seeded.cluster, seeded.name), seeded.run(SEQUENCE)) == before


def test_roles_made_by_hand_are_used(bare: Clinic) -> None:
    bare.run("INSERT INTO role_master (code, name) VALUES ('doctor', 'By hand')")
    load(bare.cluster, bare.name, "core")
    load(bare.cluster, bare.name, "clinic")
    query = (
        "SELECT (SELECT count(*) FROM role_module_access a WHERE a.role_id = r.role_id),"
        " (SELECT count(*) FROM user_role_mapping m WHERE m.role_id = r.role_id)"
        " FROM role_master r WHERE name = 'By hand'"
    )
    assert bare.run(query) == [(5, 20)]


def test_the_clinic_needs_the_core(bare: Clinic) -> None:
    done = psql(bare.cluster, bare.name, "-v", "scale=1", "--single-transaction", "-f", SEED)
    assert done.returncode == 3
    assert "roles are missing, load the seed core first" in done.stderr
    assert bare.value("SELECT count(*) FROM hospitals") == 0


def test_without_a_scale_it_is_the_small_one(bare: Clinic, templates: Templates) -> None:
    load(bare.cluster, bare.name, "core")
    done = psql(bare.cluster, bare.name, "--single-transaction", "-f", SEED)
    assert done.returncode == 0, done.stderr
    expected = templates.content(bare.cluster)
    assert content(bare.cluster, bare.name) == expected


def test_every_scale_has_a_size_and_small_is_about_ten_thousand_rows(seeded: Clinic) -> None:
    head = re.search(r"^-- scales: (.*)$", SEED.read_text("utf-8"), re.MULTILINE)
    assert head is not None
    scales = dict(word.split("=") for word in head[1].split())
    assert list(scales) == ["small", "medium", "large"]
    assert int(scales["medium"]) == 10 * int(scales["small"])
    assert seeded.value("SELECT count(*) FROM hospitals") == int(scales["small"])
    rows = sum(count for count, _ in content(seeded.cluster, seeded.name).values())
    assert 9_000 < rows < 13_000


def test_the_text_compresses_like_real_text(seeded: Clinic) -> None:
    dumped = tool(seeded.cluster, "pg_dump", seeded.name, user=OWNER)
    assert 2.5 < len(dumped) / len(zlib.compress(dumped, 6)) < 4.1


def test_every_table_has_rows_that_make_sense(seeded: Clinic) -> None:
    for table, (rows, _) in content(seeded.cluster, seeded.name).items():
        assert bool(rows) is (table not in UNSEEDED), table
    wrong = {
        "a consultation that was not": """
            SELECT 1 FROM consultations JOIN appointments USING (appointment_id)
            WHERE status <> 'completed' OR consultations.patient_id <> appointments.patient_id""",
        "an appointment with no doctor": """
            SELECT 1 FROM appointments JOIN staff USING (staff_id) WHERE job <> 'doctor'""",
        "an invoice that does not add up": """
            SELECT 1 FROM invoices, LATERAL (
                SELECT sum((line ->> 'amount')::numeric) AS sum
                FROM jsonb_array_elements(lines) line) l
            WHERE sum <> net""",
        "somebody at work without a role": """
            SELECT 1 FROM users u WHERE NOT EXISTS (
                SELECT FROM user_role_mapping m WHERE m.user_id = u.user_id)""",
        "a staff role for a patient": """
            SELECT 1 FROM users
            JOIN user_role_mapping USING (user_id) JOIN role_master USING (role_id)
            WHERE (staff_id IS NULL) <> (code = 'patient')""",
        "a row from the future of its making": """
            SELECT 1 FROM patients WHERE updated_at < created_at
            UNION ALL SELECT 1 FROM appointments WHERE updated_at < created_at
            UNION ALL SELECT 1 FROM invoices WHERE updated_at < created_at""",
    }
    assert [name for name, query in wrong.items() if seeded.run(query)] == []


def test_a_seed_is_nothing_that_somebody_did(seeded: Clinic) -> None:
    # what the seed itself puts there is dated by its own calendar, not by the clock
    assert seeded.value("SELECT count(*) FROM audit_logs WHERE actor = %s", OWNER) == 0
    assert seeded.value("SELECT count(*) FROM users WHERE updated_by <> 'seed'") == 0


def test_the_demo_password_is_what_the_file_says(seeded: Clinic) -> None:
    hashes = [text for (text,) in seeded.run("SELECT DISTINCT password_hash FROM users")]
    assert len(hashes) == 1
    hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
    assert hasher.verify(hashes[0], "clinic-demo")
    assert not hasher.check_needs_rehash(hashes[0])


def test_the_next_invoice_has_a_number_of_its_own(seeded: Clinic) -> None:
    add = (
        "INSERT INTO invoices (hospital_id, patient_id, consultation_id, issued_on, due_on, net)"
        " SELECT hospital_id, patient_id, consultation_id, now(), now(), 1 FROM consultations"
        " LIMIT 3 RETURNING invoice_no"
    )
    highest = seeded.value("SELECT max(invoice_no) FROM invoices")
    assert seeded.run(add) == [(highest + n,) for n in (1, 2, 3)]


def test_an_error_in_the_middle_leaves_nothing(bare: Clinic) -> None:
    load(bare.cluster, bare.name, "core")
    bare.run("ALTER TABLE audit_logs ADD CONSTRAINT no CHECK (false)")
    before = content(bare.cluster, bare.name)
    with pytest.raises(AssertionError, match='violates check constraint "no"'):
        load(bare.cluster, bare.name, "clinic")
    assert content(bare.cluster, bare.name) == before


def test_a_database_of_another_encoding_holds_the_names(cluster: Cluster, seeded: Clinic) -> None:
    name = "clinic_latin1"
    cluster.execute(
        f"CREATE DATABASE {name} OWNER {OWNER} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"
        " TEMPLATE template0"
    )
    try:
        migrate(cluster, name)
        apply_triggers(cluster, name)
        load(cluster, name, "core")
        load(cluster, name, "clinic")
        query = "SELECT first_name, last_name, contact::text FROM patients ORDER BY patient_id"
        assert Clinic(cluster, name).run(query) == seeded.run(query)
    finally:
        cluster.drop(name)
