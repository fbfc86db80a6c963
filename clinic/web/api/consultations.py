"""Consultations, as an invoice names them: who was seen by whom and when, and nothing else."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from clinic.models import Consultation
from clinic.web.api import scope
from clinic.web.api.answers import ConsultationSeen
from clinic.web.api.blueprint import api
from clinic.web.api.guards import require_permission, token_required
from clinic.web.api.kinds import Moment
from clinic.web.api.operations import answers, asks
from clinic.web.api.paging import Page, Paged, page
from clinic.web.identity import Identity

_ORDER = (Consultation.started_at, Consultation.consultation_id)


class ConsultationFilter(Paged):
    """Which consultations to list."""

    started_from: Moment | None = None
    started_before: Moment | None = None
    patient_id: UUID | None = None
    staff_id: UUID | None = None


@api.get("/consultations")
@answers(Page[ConsultationSeen])
@token_required
@require_permission("consultations", "view", or_="invoices.view")
@asks(ConsultationFilter)
def list_consultations(
    session: Session, identity: Identity, query: ConsultationFilter
) -> Page[ConsultationSeen]:
    """List consultations, the earliest first: what an invoice can be written for."""
    found = scope.visible(Consultation, identity)
    if query.started_from is not None:
        found = found.where(Consultation.started_at >= query.started_from)
    if query.started_before is not None:
        found = found.where(Consultation.started_at < query.started_before)
    if query.patient_id is not None:
        found = found.where(Consultation.patient_id == query.patient_id)
    if query.staff_id is not None:
        found = found.where(Consultation.staff_id == query.staff_id)
    return page(session, found, _ORDER, query, ConsultationSeen)
