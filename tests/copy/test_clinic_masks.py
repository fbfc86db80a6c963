"""The clinic's own rules: they decide every column, and its data survives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from clinics import OWNER, Clinic, seeded, templates
from paths import ROOT
from projects import put_stamp
from servers import Cluster

__all__ = ["seeded", "templates"]


@pytest.fixture
def clinic(seeded: Clinic, cluster: Cluster, project: Path) -> Clinic:
    """Return a clinic that is environment qa, with the rules that its production has."""
    example = yaml.safe_load((ROOT / "env" / "prod.example.yaml").read_text(encoding="utf-8"))
    settings = {"url": cluster.url(seeded.name), "protected": True, "mask": example["mask"]}
    (project / "env" / "qa.yaml").write_text(json.dumps(settings), encoding="utf-8")
    (project / "env" / "qa.env").write_text("MASK_KEY=of-many-letters-and-more\n", encoding="utf-8")
    put_stamp(cluster.target(seeded.name, environment="qa"))
    return seeded


def test_the_rules_of_the_clinic_are_complete(
    clinic: Clinic, cluster: Cluster, database: str, inv: Callable[..., Any]
) -> None:
    checked = inv("mask.check", "--env", "qa", "--json")
    assert checked.returncode == 0, checked.stderr
    shown = json.loads(checked.stdout)
    assert shown["undecided"] == shown["leaks"] == []
    assert shown["columns"]["public.patients.first_name"] == "first_name"
    assert inv("mask.suggest", "--env", "qa").stdout == "all columns are decided\n"
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {OWNER}')
    done = inv("db.copy", "qa", "dev")
    assert done.returncode == 0, done.stderr
    before = {value for (value,) in clinic.run(PERSONAL)}
    after = {value for (value,) in cluster.execute(PERSONAL, database)}
    assert len(before) > 100
    assert before & after == set()
    counted = "SELECT count(*) FROM patients WHERE born_on BETWEEN '1900-01-01' AND now()"
    assert cluster.value(counted, database) == clinic.value("SELECT count(*) FROM patients")
    kin = "SELECT count(*) FROM patients WHERE contact ? 'street' OR contact ? 'insurance_no'"
    assert cluster.value(kin, database) == 0


PERSONAL = """
SELECT email FROM patients UNION SELECT email FROM staff UNION SELECT phone FROM patients
UNION SELECT record_no FROM patients UNION SELECT notes FROM patients
UNION SELECT username FROM users UNION SELECT username FROM login_history
UNION SELECT contact ->> 'street' FROM patients
UNION SELECT complaint FROM consultations UNION SELECT token_hash FROM user_sessions
EXCEPT VALUES (NULL)
"""


def test_a_new_column_of_the_clinic_is_not_covered(
    clinic: Clinic, database: str, inv: Callable[..., Any]
) -> None:
    clinic.run("ALTER TABLE patients ADD passport_no text")
    checked = inv("mask.check", "--env", "qa")
    assert checked.returncode == 1
    assert "  public.patients.passport_no: hash  # its name" in checked.stdout
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode == 2
    assert "1 column of it is neither masked nor declared plain" in refused.stderr
    assert "public.patients.passport_no: hash" in refused.stderr
