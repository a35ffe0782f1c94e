"""`sos agent doctor`: what is wrong with an agent's place on the bus, check by check, each with its cure.

Importing this loads nothing of NATS; the check that connects does.
"""

from sos.sdk.doctor.check import Finding, Verdict
from sos.sdk.doctor.examination import CHECKS, TOTAL_S, examine
from sos.sdk.doctor.local import Local

__all__ = ["CHECKS", "TOTAL_S", "Finding", "Local", "Verdict", "examine"]
