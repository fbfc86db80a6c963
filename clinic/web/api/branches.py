"""The places of a hospital, which all of its users know: the registration shows them to anybody."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinic.models import Branch
from clinic.web.api.answers import BranchSeen
from clinic.web.api.blueprint import api
from clinic.web.api.guards import token_required
from clinic.web.api.operations import answers, asks
from clinic.web.api.paging import Page, Paged, page
from clinic.web.identity import Identity

_ORDER = (Branch.name, Branch.branch_id)


class BranchFilter(Paged):
    """Which branches to list."""

    is_active: bool | None = None


@api.get("/branches")
@answers(Page[BranchSeen])
@token_required
@asks(BranchFilter)
def list_branches(session: Session, identity: Identity, query: BranchFilter) -> Page[BranchSeen]:
    """List the branches of the hospital by name."""
    found = select(Branch).where(Branch.hospital_id == identity.hospital_id)
    if query.is_active is not None:
        found = found.where(Branch.is_active.is_(query.is_active))
    return page(session, found, _ORDER, query, BranchSeen)
