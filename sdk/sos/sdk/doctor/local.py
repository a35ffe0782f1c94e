"""What this machine knows of an agent without asking anybody: which home, gateway, context, name and token.

The law: looking never raises and never writes. What is wrong is kept beside what could be found, for the checks to say.
"""

import os
from pathlib import Path

import msgspec

from sos.sdk import contexts, identity
from sos.wire.errors import BadRequest, SosError
from sos.wire.home import agent_home, sos_home
from sos.wire.names import is_name


class Local(msgspec.Struct, kw_only=True):
    """An agent as this machine knows it. Empty where nothing was found; `problem` says why there is no token."""

    home: Path
    url: str = ""
    url_problem: SosError | None = None
    context: str = ""
    project: str = ""
    name: str = ""
    token: str = ""
    token_path: Path | None = None
    """None for a token of SOS_TOKEN."""
    problem: SosError | None = None

    def __repr__(self) -> str:
        return f"Local({self.project}/{self.name})"

    @property
    def agent_home(self) -> Path | None:
        """The agent's folder, whether it is there or not; None if it is not known whose."""
        if not (is_name(self.project) and is_name(self.name)):
            return None
        return agent_home(self.project, self.name, self.home)

    @property
    def token_source(self) -> str:
        """Where the token was found."""
        return str(self.token_path) if self.token_path is not None else "SOS_TOKEN"


def look(name: str, project: str) -> Local:
    """The agent `name` of `project`; empty for the one that the environment, the context or the home means."""
    local = Local(home=sos_home())
    try:
        local.url = identity.find_url()
        local.context = contexts.chosen().name
    except SosError as e:
        local.url_problem = e if not local.url else None  # SOS_URL stands, whatever the contexts hold
    try:
        _find_agent(local, name, project)
    except SosError as e:
        local.problem = e
    except (OSError, UnicodeDecodeError) as e:
        local.problem = BadRequest(why=f"the saved token cannot be read ({e.__class__.__name__})")
    return local


def _find_agent(local: Local, name: str, project: str) -> None:
    token = os.environ.get("SOS_TOKEN", "").strip()
    if token:
        local.token = token
        local.name, local.project = contexts.given(name, project)
        return
    local.name, local.project = contexts.who(name, project)
    _only_home(local)
    path = identity.saved_token(local.name, local.project)
    local.project, local.name, local.token_path = path.parent.parent.name, path.parent.name, path
    local.token = path.read_text().strip()


def _only_home(local: Local) -> None:
    """The agent whose home is the only one that fits: its token may be lost, its guide is there all the same."""
    fits = [p for p in local.home.glob(f"agents/{local.project or '*'}/{local.name or '*'}") if p.is_dir()]
    if len(fits) == 1:
        local.project, local.name = fits[0].parent.name, fits[0].name
