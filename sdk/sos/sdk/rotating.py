"""Another token for an agent, from its own home: asked with the old one, and saved before the old one is forgotten.

A process that dies between the gateway's answer and the saved token has lost nothing: the request is kept in the home
(`sos.sdk.once`), and rotating again, or joining again, completes it with the same token.
"""

from pathlib import Path

from sos.sdk import identity, once
from sos.sdk.gateway import Gateway
from sos.wire import api
from sos.wire.home import agent_home
from sos.wire.tokens import TokenKind, check, digest, id_of

PATH = "/api/agent/rotate"


async def rotate(url: str, project: str, name: str, grace_s: float = 0.0, root: Path | None = None) -> api.AgentRotated:
    """The saved agent's token is another one, and the home holds it. An interrupted rotation is completed instead, with
    the grace it was begun with. Raises `MalformedToken`, `UnknownToken`, `GatewayUnreachable`, `FileNotFoundError`."""
    home = agent_home(project, name, root)
    token = (home / identity.TOKEN_FILE).read_text().strip()
    check(token, TokenKind.AGENT)
    ask = api.RotateToken(grace_s=grace_s)
    rotated = await once.ask(Gateway(url, token), home, PATH, ask, api.AgentRotated, asker=id_of(digest(token)))
    identity.save(project, name, rotated.raw_token, root)
    once.done(home)
    return rotated


async def complete(url: str, project: str, name: str, root: Path | None = None) -> bool:
    """Complete a rotation of this home that was interrupted. Whether there was one."""
    home = agent_home(project, name, root)
    token = (home / identity.TOKEN_FILE).read_text().strip()
    if once.kept(home, PATH, id_of(digest(token))) is None:
        return False
    await rotate(url, project, name, root=root)
    return True
