"""SQLite projections of the streams, and their queries."""

from sos.broker.views.errors import NewerDatabase
from sos.broker.views.projector import Cursor
from sos.broker.views.refold import REGISTRY_KEY, catch_up, check_not_behind, events_key, project_of, refold
from sos.broker.views.rows import Run
from sos.broker.views.views import Counts, KeyHolder, Views, open_views

__all__ = [
    "REGISTRY_KEY",
    "Counts",
    "Cursor",
    "KeyHolder",
    "NewerDatabase",
    "Run",
    "Views",
    "catch_up",
    "check_not_behind",
    "events_key",
    "open_views",
    "project_of",
    "refold",
]
