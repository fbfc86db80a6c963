"""Invoices: the hospital's for its staff, the own ones for a patient."""

from __future__ import annotations

import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from clinic.models import Consultation, Invoice
from clinic.web.api import scope
from clinic.web.api.answers import InvoiceSeen
from clinic.web.api.blueprint import api
from clinic.web.api.bodies import InvoiceChange, NewInvoice, given
from clinic.web.api.guards import require_permission, token_required
from clinic.web.api.kinds import InvoiceStatus
from clinic.web.api.operations import answers, asks, created, matches, takes, unchanged
from clinic.web.api.paging import Page, Paged, page
from clinic.web.api.problems import conflict, wrong
from clinic.web.identity import Identity

_ORDER = (Invoice.invoice_no,)


class InvoiceFilter(Paged):
    """Which invoices to list."""

    status: InvoiceStatus | None = None
    patient_id: UUID | None = None
    due_before: datetime.date | None = None


@api.get("/invoices")
@answers(Page[InvoiceSeen])
@token_required
@require_permission("invoices", "view")
@asks(InvoiceFilter)
def list_invoices(session: Session, identity: Identity, query: InvoiceFilter) -> Page[InvoiceSeen]:
    """List invoices by number."""
    found = scope.visible(Invoice, identity)
    if query.status is not None:
        found = found.where(Invoice.status == query.status)
    if query.patient_id is not None:
        found = found.where(Invoice.patient_id == query.patient_id)
    if query.due_before is not None:
        found = found.where(Invoice.due_on < query.due_before)
    return page(session, found, _ORDER, query, InvoiceSeen)


@api.get("/invoices/<uuid:invoice_id>")
@answers(InvoiceSeen, problems=(404,))
@token_required
@require_permission("invoices", "view")
def show_invoice(session: Session, identity: Identity, invoice_id: UUID) -> InvoiceSeen:
    """Return an invoice."""
    return seen(scope.one(session, Invoice, invoice_id, identity))


@api.post("/invoices")
@answers(InvoiceSeen, status=201)
@token_required
@require_permission("invoices", "add")
@takes(NewInvoice)
def write_invoice(
    session: Session, identity: Identity, body: NewInvoice
) -> tuple[InvoiceSeen, dict[str, str]]:
    """Write an invoice for a consultation; its number and its sums are made here."""
    invoice = Invoice(
        hospital_id=identity.hospital_id,
        patient_id=_patient(session, identity, body.consultation_id),
        consultation_id=body.consultation_id,
        issued_on=body.issued_on,
        due_on=body.due_on,
        currency=body.currency,
        lines=msgspec.to_builtins(body.lines),
        net=body.net,
        tax=body.tax,
    )
    session.add(invoice)
    session.flush()
    session.refresh(invoice)
    return created(seen(invoice), invoice.invoice_id)


@api.patch("/invoices/<uuid:invoice_id>")
@answers(InvoiceSeen, problems=(404, 409))
@token_required
@require_permission("invoices", "edit")
@matches(required=True)
@takes(InvoiceChange)
def change_invoice(
    session: Session, identity: Identity, invoice_id: UUID, body: InvoiceChange
) -> InvoiceSeen:
    """Book what was paid, move the day to pay, or void an invoice of which nothing was paid."""
    invoice = scope.one(session, Invoice, invoice_id, identity, lock=True)
    unchanged(invoice)
    if invoice.status == "void":
        raise conflict("status", "is void already")
    changes = given(body)
    paid = changes.get("paid", invoice.paid)
    if changes.get("status") == "void":
        if paid:
            raise conflict("status", "something of it was paid")
    else:
        changes["status"] = "paid" if paid == invoice.total else "open"
    for name, value in changes.items():
        setattr(invoice, name, value)
    session.flush()
    session.refresh(invoice)
    return seen(invoice)


def seen(invoice: Invoice) -> InvoiceSeen:
    """Return what the API shows of an invoice."""
    return msgspec.convert(invoice, InvoiceSeen, from_attributes=True)


def _patient(session: Session, identity: Identity, consultation_id: UUID) -> UUID:
    """Return whom a consultation was for."""
    found = session.scalar(
        select(Consultation.patient_id).where(
            Consultation.hospital_id == identity.hospital_id,
            Consultation.consultation_id == consultation_id,
        )
    )
    if found is None:
        raise wrong("consultation_id", "is no consultation of this hospital")
    return found
