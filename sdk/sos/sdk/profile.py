"""`<agent home>/agent.json`: what this install joined as. No secret stands in it; 0600 like everything in the home.

The law: it says what the last join came to and nothing of when it ran, so that repeating a join leaves the same bytes.
The gateway's word comes before this file: it is for a person, and to tell a stale token of ours from another's claim.
"""

from pathlib import Path

import msgspec

from sos.wire.envelope import Moment
from sos.wire.errors import BadRequest
from sos.wire.home import agent_home, write_secret
from sos.wire.roles import Role

PROFILE_FILE = "agent.json"


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent as this install joined it. `skills` are ids; `joined_at` is the gateway's clock, None if unknown."""

    project: str
    name: str
    role: Role
    skills: tuple[str, ...]
    url: str
    client: str = ""
    model: str = ""
    joined_at: Moment | None = None


def path_of(project: str, name: str, root: Path | None = None) -> Path:
    """Where the profile is. `root` is `$SOS_HOME` unless given."""
    return agent_home(project, name, root) / PROFILE_FILE


def load(project: str, name: str, root: Path | None = None) -> Profile | None:
    """The profile, None if this install has not joined; `BadRequest` for one that cannot be read."""
    path = path_of(project, name, root)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as e:
        raise BadRequest(why=f"{path} is not valid ({e}); 'sos agent join' writes it anew") from None


def save(profile: Profile, root: Path | None = None) -> Path:
    """Write the profile whole; one that says the same already is left alone. Raises `OSError`."""
    path = path_of(profile.project, profile.name, root)
    content = msgspec.json.format(msgspec.json.encode(profile), indent=2).decode() + "\n"
    try:
        same = path.read_bytes() == content.encode()
    except OSError:
        same = False
    if not same:
        write_secret(path, content)
    return path
