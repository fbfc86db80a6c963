"""What fields mean, where a name alone does not say it: for the document."""

from __future__ import annotations

_FROM, _BEFORE = "at this time or later", "earlier than this time"

MEANINGS = {
    # tokens
    "Credentials.username": "upper and lower case are the same",
    "Refresh.refresh_token": "of the last login or refresh; each one is good for one use",
    "Tokens.access_token": "for the header `Authorization: Bearer TOKEN`",
    "Tokens.refresh_token": "for `POST /api/auth/refresh` when the access token has expired",
    "Tokens.expires_in": "seconds until the access token expires",
    "Validity.expires_at": "when the session ends, unless a logout does before; the access token "
    "expires sooner, `expires_in` seconds after it was issued",
    "Validity.permissions": "such as `appointments.add`: what `x-permission` of an operation names",
    "Me.permissions": "such as `appointments.add`: what `x-permission` of an operation names",
    "Me.staff_id": "null for patients",
    "Me.patient_id": "null for staff",
    # lists
    "Page.next": "the address of the next page, null on the last one",
    "Paged.limit": "rows of a page",
    "Paged.after": "made by the server: follow `next` of the page before",
    "PatientFilter.last_name": "how it begins; upper and lower case are the same",
    "AppointmentFilter.starts_from": _FROM,
    "AppointmentFilter.starts_before": _BEFORE,
    "ConsultationFilter.started_from": _FROM,
    "ConsultationFilter.started_before": _BEFORE,
    "InvoiceFilter.due_before": "due earlier than this day",
    "DayFilter.day": "in UTC; today where it is left out",
    # patients
    "NewPatient.branch_id": "where the patient is registered: one of `GET /api/branches`",
    "NewPatient.record_no": "the number of the record; made up where it is left out",
    "NewPatient.contact": "where somebody lives, and whom to call",
    "PatientSeen.record_no": "the number of the record, unique in the hospital",
    "PatientSeen.contact": "where somebody lives, and whom to call",
    "PatientSeen.is_active": "whether somebody can be booked for",
    "PatientChange.contact": "replaces the whole of it",
    "PatientChange.allergies": "replaces all of them",
    "PatientChange.is_active": "false: nobody can be booked for this patient any more",
    # appointments
    "NewAppointment.staff_id": "who is to see the patient: one of `GET /api/staff`",
    "NewAppointment.starts_at": "one of the times of `GET /api/staff/{staff_id}/free`",
    "NewAppointment.patient_id": "whom it is for; patients, who book for themselves, leave it out",
    "NewAppointment.branch_id": "where; that of the staff where it is left out",
    "NewAppointment.channel": "how the patient asked; `web` for patients who book",
    "AppointmentSeen.channel": "how the patient asked",
    "AppointmentChange.starts_at": "one of the times of `GET /api/staff/{staff_id}/free`",
    "AppointmentChange.status": "what became of it, from its day on; to cancel: POST .../cancel",
    # invoices
    "NewInvoice.consultation_id": "what it is for: one of `GET /api/consultations`",
    "NewInvoice.due_on": "the last day to pay",
    "NewInvoice.tax": "for all lines together",
    "InvoiceLine.code": "of the list of fees, if it has one",
    "InvoiceChange.paid": "all that was paid so far, not the last payment alone",
    "InvoiceChange.status": "`void` ends an invoice of which nothing was paid",
    "InvoiceSeen.due_on": "the last day to pay",
    "InvoiceSeen.net": "the sum of the lines",
    "InvoiceSeen.total": "`net` and `tax`",
    "InvoiceSeen.paid": "all that was paid so far",
    "LineSeen.code": "of the list of fees, if it has one",
}


def of(name: str, field: str) -> str:
    """Return what a field means, empty where its name says it; `name`: of its Struct."""
    kinds = [name]
    if name.startswith("Page_"):
        kinds = ["Page"]
    elif name.endswith("Filter"):
        kinds.append("Paged")
    found = (MEANINGS.get(f"{kind}.{field}", "") for kind in kinds)
    return next(filter(None, found), "")
