"""`sos demo`: the whole bus on a throw-away home, told step by step and checked step by step."""

from sos.sdk.demo.story import Outcome, tell

__all__ = ["Outcome", "tell"]
