"""What the database refuses, as problems that name the field.

The constraints are the last word: between a look of the application and its write, another request
may have written. Each constraint of the tables that the API writes is here (a test compares).
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from clinic.web import constraints
from clinic.web.api.problems import Rejected, conflict, wrong

_TAKEN = {
    "uq_appointments_slot": ("starts_at", "this hour is taken"),
    "uq_patients_hospital_id_record_no": ("record_no", "another patient has it"),
}
_ELSEWHERE = {
    "fk_appointments_hospital_id_branch_id": ("branch_id", "is no branch of this hospital"),
    "fk_appointments_hospital_id_patient_id": ("patient_id", "is no patient of this hospital"),
    "fk_appointments_hospital_id_staff_id": ("staff_id", "does not work for this hospital"),
    "fk_invoices_hospital_id_consultation_id": (
        "consultation_id",
        "is no consultation of this hospital",
    ),
    "fk_invoices_hospital_id_patient_id": ("patient_id", "is no patient of this hospital"),
    "fk_patients_hospital_id_branch_id": ("branch_id", "is no branch of this hospital"),
}
_BROKEN = {
    "ck_appointments_channel": ("channel", "is unknown"),
    "ck_appointments_ends_later": ("ends_at", "expected a time after starts_at"),
    "ck_appointments_status": ("status", "is unknown"),
    "ck_invoices_amounts": ("lines", "expected amounts of 0 or more"),
    "ck_invoices_currency": ("currency", "expected three capital letters, such as EUR"),
    "ck_invoices_due_later": ("due_on", "expected a day not before issued_on"),
    "ck_invoices_lines": ("lines", "expected a list"),
    "ck_invoices_paid": ("paid", "expected an amount from 0 to the total"),
    "ck_invoices_paid_in_full": ("paid", "expected the total of a paid invoice"),
    "ck_invoices_status": ("status", "is unknown"),
    "ck_patients_blood_group": ("blood_group", "is unknown"),
    "ck_patients_born_on": ("born_on", "expected a day from 1900-01-01 on"),
    "ck_patients_contact": ("contact", "expected an object"),
    "ck_patients_email": ("email", "expected NAME@HOST"),
    "ck_patients_first_name_filled": ("first_name", "expected 1 to 200 characters"),
    "ck_patients_gender": ("gender", "is unknown"),
    "ck_patients_last_name_filled": ("last_name", "expected 1 to 200 characters"),
}
# made by the server alone, so that only a fault of ours can violate them
OURS = frozenset(
    {
        *("pk_appointments", "uq_appointments_hospital_id_appointment_id"),
        *("pk_invoices", "uq_invoices_invoice_no"),
        *("pk_patients", "uq_patients_hospital_id_patient_id"),
    }
)
NAMES = frozenset({*_TAKEN, *_ELSEWHERE, *_BROKEN})

_NUMBER_TOO_LARGE = "22003"
_TEXT_NOT_STORED = ("22021", "22P05")  # a character that the database's encoding has not
_BUSY = ("40001", "40P01", "55P03", "57014")  # rolled back, or waited too long, for others


def rejected(error: DBAPIError) -> Rejected | None:
    """Return the problem of an error, None for one that is no fault of the client."""
    # psycopg2 has the one, psycopg 3 the other
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None) or ""
    name = constraints.violated(error)
    if name in _TAKEN:
        return conflict(*_TAKEN[name])
    if named := _ELSEWHERE.get(name) or _BROKEN.get(name):
        return wrong(*named)
    if code == _NUMBER_TOO_LARGE:
        return Rejected(422, "a number is too large")
    if code in _TEXT_NOT_STORED:
        return Rejected(422, "a text has a character that this database cannot store")
    if code in _BUSY:
        return Rejected(503, "others change the same: try again", headers={"Retry-After": "1"})
    return None
