"""The blueprint of the API, and what its routes raise."""

from __future__ import annotations

from flask import Blueprint
from werkzeug.exceptions import HTTPException

from clinic.web.api import problems
from clinic.web.api.problems import Rejected
from clinic.web.security.errors import SecurityError
from pgtasks.service import CommitUnknown

api = Blueprint("api", __name__, url_prefix=problems.PREFIX)

api.register_error_handler(Rejected, problems.response)
api.register_error_handler(HTTPException, lambda error: problems.response(problems.of_http(error)))
api.register_error_handler(
    SecurityError, lambda error: problems.response(problems.of_security(error))
)
api.register_error_handler(
    CommitUnknown, lambda error: problems.response(problems.of_unknown_commit(error))
)
