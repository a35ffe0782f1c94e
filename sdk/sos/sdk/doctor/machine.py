"""Checks of the machine: Python, the disk under the home, who may enter the home."""

import shlex
import shutil
import stat
import sys
from pathlib import Path

from sos.sdk.doctor.check import Says, Verdict, critical, ok, skipped, warning
from sos.sdk.doctor.patient import Patient

LEAST_PYTHON = (3, 12)
DISK_RESET_PERCENT = 85.0
DISK_WARNING_PERCENT = 90.0
DISK_CRITICAL_PERCENT = 95.0
"""Per cent used, the thresholds of the gateway's own watchdog: a full disk makes everything else lie."""
_GIB = 2**30


def python(_: Patient) -> Says:
    """`python.version`."""
    return python_says(sys.version_info[:3])


def python_says(version: tuple[int, ...]) -> Says:
    """What this version of Python means."""
    shown = ".".join(map(str, version))
    if version[:2] < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return critical(f"Python {shown}", f"Install Python {least} or newer and sos-bus in it.")
    return ok(f"Python {shown}")


def disk(patient: Patient) -> Says:
    """`disk.home`: the volume that holds the home, or would."""
    home = patient.local.home
    place = next(p for p in (home, *home.parents) if p.exists())
    usage = shutil.disk_usage(place)
    return disk_says(100 * usage.used / max(usage.used + usage.free, 1), usage.free, place)


def disk_says(used_percent: float, free_bytes: int, place: Path) -> Says:
    """What so full a disk means. `used_percent` is of what may be used, as `df` counts."""
    found = f"{used_percent:.0f}% used, {free_bytes / _GIB:.1f} GiB free on the volume of {place}"
    if used_percent >= DISK_CRITICAL_PERCENT:
        return critical(found, "Free space before anything else: on a full disk nothing can be stored or trusted.")
    if used_percent >= DISK_WARNING_PERCENT:
        return warning(found, f"Free space until less than {DISK_RESET_PERCENT:.0f}% is used.")
    if used_percent >= DISK_RESET_PERCENT:
        return ok(f"{found}; a warning given before ends below {DISK_RESET_PERCENT:.0f}%")
    return ok(found)


def permissions(patient: Patient) -> Says:
    """`home.permissions`: folders 0700, the token 0600."""
    home, agent = patient.local.home, patient.local.agent_home
    if not home.is_dir():
        return skipped(f"there is no home at {home} yet")
    folders = [home, *([agent.parents[1], agent.parent, agent] if agent is not None else [])]
    files = [home / "install", home / "contexts.json", home / "operator.token"]
    files += [agent / "token", agent / "state.db"] if agent is not None else []
    wrong = [(p, 0o700) for p in folders if _open_to_others(p)] + [(p, 0o600) for p in files if _open_to_others(p)]
    if not wrong:
        return ok(f"{home} is its owner's alone")
    found = ", ".join(f"{p} is {_mode(p):04o}, not {mode:04o}" for p, mode in wrong)
    cure = " && ".join(f"chmod {mode:o} {shlex.quote(str(p))}" for p, mode in wrong)
    return Says(verdict=_grave(wrong), found=found, cure=cure)


def _grave(wrong: list[tuple[Path, int]]) -> Verdict:
    """A token that others may read is theirs too; the rest tells them names."""
    return "critical" if any(p.name in {"token", "operator.token"} for p, _ in wrong) else "warning"


def _open_to_others(path: Path) -> bool:
    return path.exists() and _mode(path) & 0o077 != 0


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
