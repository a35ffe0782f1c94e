"""Joining: from a name and a token to an agent that is addressed, authenticated, tested, and knows what to do if stuck.

The law: every step may be repeated, and a repetition of the whole changes nothing; so whoever was interrupted anywhere
runs it again. It fails only where the agent cannot be addressed or authenticated. All other trouble is a warning with
its cure, for an agent that can be reached can be mended. Nothing is printed here; `progress` hears of each step done.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import msgspec

from sos.sdk import claiming, guide, identity, once, profile, proving, surroundings
from sos.sdk.claiming import Claimed, Origin
from sos.sdk.gateway import Gateway, check_url
from sos.wire import api, subjects
from sos.wire.errors import AgentDisabled, BadRequest, ErrorBody, Kind, NameClaimed, SosError
from sos.wire.home import agent_home, sos_home
from sos.wire.names import normalise, recipient
from sos.wire.roles import DEFAULT_ROLE, ROLES, Role, mesh_role
from sos.wire.scopes import ALL
from sos.wire.skills import Skill, checked, named

Step = Literal["name", "install", "token", "saved", "joined", "profile", "session", "test", "peers", "guide"]
STEPS: tuple[Step, ...] = get_args(Step)
Progress = Callable[[Step, str], None]
MAX_SKILL_FILE_BYTES = 1024 * 1024
"""Eight times what the skills of one agent may be together: past that it is another file."""
_FATAL = {Kind.UNAUTHENTICATED, Kind.NOT_FOUND}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be joined, as a person wrote it. Empty where it is not said; then what is on record stays."""

    name: str
    project: str = ""
    role: str = ""
    skills: tuple[str, ...] = ()
    skill_files: tuple[Path, ...] = ()
    token_file: Path | None = None
    client: str = ""
    model: str = ""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """Trouble that did not stop the joining: in which step, what happened, what to do."""

    step: Step
    code: str
    detail: str
    cure: str


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """To the four questions that every agent must be able to answer."""

    who_am_i: str
    where_is_my_inbox: str
    what_can_i_do: str
    what_do_i_do_when_stuck: str


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What a join came to. The token is in the home and nowhere in here."""

    project: str
    name: str
    role: Role
    skills: tuple[str, ...]
    token: Origin
    home: str
    url: str
    session: str
    """The stamp of the test's session, empty if none could be opened."""
    round_trip_ms: float | None
    """Of the test message to itself; None if it did not come back."""
    in_peers: bool
    guide: str
    """Where the recovery guide is, empty if it could not be written."""
    answers: Answers
    warnings: tuple[Warned, ...]


async def join(
    wish: Wish, url: str = "", *, root: Path | None = None, progress: Progress = lambda _step, _told: None
) -> Joined:
    """Join as `wish` says, at the gateway of `url` or of `find_url`, with `root` in place of `$SOS_HOME`.

    Raises `BadName`, `MissingToken`, `MalformedToken`, `UnknownToken`, `WrongIdentity`, `AgentDisabled`, `NameTaken`,
    `NameClaimed`, `LimitReached`, `GatewayUnreachable` and what else keeps it from having a token of its own.
    """
    return await _Joining(wish, check_url(identity.find_url(url or None)), root, progress).run()


class _Joining:
    def __init__(self, wish: Wish, url: str, root: Path | None, progress: Progress) -> None:
        self._wish, self._url, self._root, self._progress = wish, url, root, progress
        self._warnings: list[Warned] = []
        self._name = self._project = ""
        self._role: Role | None = None
        self._skills: tuple[Skill, ...] | None = None
        self._install = ""
        self._client, self._model = surroundings.named(wish.client, wish.model, os.environ)

    async def run(self) -> Joined:
        """The steps, in order. Each may find that it was done before."""
        self._read_wish()
        try:
            self._install = identity.install_id(self._root)
            self._progress("install", f"this install is …{self._install[-4:]}")
            claimed = await self._claim()
            new = self._save(claimed)
        except OSError as e:
            where = self._root or sos_home()
            raise BadRequest(why=f"nothing can be kept in the home {where} ({e.strerror})") from None
        me = await self._register(claimed, new=new)
        self._write_profile(me)
        proof = await self._prove(claimed, me)
        guide_path = self._write_guide()
        return self._outcome(claimed, me, proof, guide_path)

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_wish(self) -> None:
        self._name = recipient(self._wish.name)
        self._project = normalise(self._wish.project, "project slug") if self._wish.project else ""
        self._role = self._read_role()
        self._skills = self._read_skills()
        self._progress("name", self._name)

    async def _claim(self) -> Claimed:
        hand = claiming.at_hand(self._wish.token_file, self._url, self._root)
        claim = claiming.Claim(self._url, self._name, self._project, hand, self._model, self._root)
        claimed = await claim.token()
        self._project = claimed.project
        if claimed.trouble is not None:
            self._warn("token", claimed.trouble)
        self._progress("token", f"{claimed.origin}, for {self._name} of project {self._project}")
        return claimed

    def _save(self, claimed: Claimed) -> bool:
        """Whether the home holds a token only from now on."""
        path = agent_home(self._project, self._name, self._root) / identity.TOKEN_FILE
        new = not path.exists()
        identity.save(self._project, self._name, claimed.token, self._root)
        once.done(path.parent)
        self._progress("saved", str(path))
        return new

    async def _register(self, claimed: Claimed, *, new: bool) -> api.Me | None:
        """The name is this install's, and the mesh knows what the agent is and can do."""
        me = claimed.me
        try:
            me = await self._ask_to_join(claimed, self._role or "", self._to_register(me))
        except (NameClaimed, AgentDisabled):
            if new:  # the token of a name that another install has is no business of this home
                (agent_home(self._project, self._name, self._root) / identity.TOKEN_FILE).unlink(missing_ok=True)
            raise
        except SosError as e:
            if e.kind in _FATAL:
                raise
            self._warn("joined", e)
            if e.kind is Kind.INVALID and me is not None:  # what it says of itself was refused, not the agent
                me = await self._join_as_recorded(claimed, me)
        self._progress("joined", "in the mesh" if me is not None else "not yet: the gateway does not answer")
        return me

    async def _join_as_recorded(self, claimed: Claimed, me: api.Me) -> api.Me:
        try:
            return await self._ask_to_join(claimed, "", me.agent.skills)
        except SosError as e:
            if e.kind in _FATAL or isinstance(e, NameClaimed):
                raise
            self._warn("joined", e)
            return me

    async def _ask_to_join(self, claimed: Claimed, role: str, skills: tuple[Skill, ...]) -> api.Me:
        ask = api.JoinAgent(install=self._install, role=role, skills=skills)
        gateway = Gateway(self._url, claimed.token)
        return await once.patiently(lambda: gateway.call("POST", "/api/agent/join", api.Me, ask))

    def _to_register(self, me: api.Me | None) -> tuple[Skill, ...]:
        """Of what is given nothing: what is on record, so that joining again without --skill takes none away."""
        if self._skills is not None:
            return self._skills
        return me.agent.skills if me is not None else ()

    def _write_profile(self, me: api.Me | None) -> None:
        if me is None:
            return  # the last one stays: it is what the gateway said last
        agent = me.agent
        said = profile.Profile(
            project=agent.project,
            name=agent.name,
            role=agent.role,
            skills=tuple(s.id for s in agent.skills),
            url=self._url,
            client=self._client,
            model=self._model,
            joined_at=agent.joined_at,
        )
        try:
            path = profile.save(said, self._root)
        except OSError as e:
            self._warn_of("profile", "profile_not_written", f"agent.json was not written: {e.strerror}.", _FREE_HOME)
            return
        self._progress("profile", str(path))

    async def _prove(self, claimed: Claimed, me: api.Me | None) -> proving.Proof:
        """A session, a message to itself, its presence among the peers."""

        def trouble(step: proving.Part, told: ErrorBody) -> None:
            self._warn_of(step, told.code, told.detail, told.cure)

        return await proving.prove(
            proving.Subject(
                token=claimed.token,
                name=self._name,
                project=self._project,
                url=self._url,
                client=self._client,
                model=self._model,
                scopes=me.agent.scopes if me is not None else ALL,
                root=self._root,
            ),
            self._progress,
            trouble,
        )

    def _write_guide(self) -> str:
        home = agent_home(self._project, self._name, self._root)
        whose = guide.Subject(project=self._project, name=self._name, home=self._root or sos_home(), url=self._url)
        try:
            path = guide.leave(home, whose)
        except OSError as e:
            self._warn_of("guide", "guide_not_written", f"The guide was not written: {e.strerror}.", _FREE_HOME)
            return ""
        self._progress("guide", str(path))
        return str(path)

    # ── what was written by a person ─────────────────────────────────────────────────────────────────────────────

    def _read_role(self) -> Role | None:
        """The mesh role that the label means; None if none is given."""
        if not (label := self._wish.role.strip()):
            return None
        role, told = mesh_role(label)
        if not told:
            self._warn_of(
                "name",
                "unknown_role",
                f"No mesh role is known for the label {label!r}; the agent is a {role}.",
                f"Join again with one of: {', '.join(ROLES)}.",
            )
        return role

    def _read_skills(self) -> tuple[Skill, ...] | None:
        """The full descriptors; what cannot be read is left out with a warning. None if nothing was given or read."""
        found: dict[str, Skill] = {}
        for text in self._wish.skills:
            self._take(found, lambda text=text: (named(text),))
        for path in self._wish.skill_files:
            self._take(found, lambda path=path: skills_of(path))
        try:
            return checked(tuple(found.values())) if found else None
        except BadRequest as e:
            self._warn("name", e)
            return None

    def _take(self, found: dict[str, Skill], read: Callable[[], tuple[Skill, ...]]) -> None:
        try:
            found.update({s.id: s for s in read()})
        except SosError as e:
            self._warn("name", e)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _warn(self, step: Step, error: SosError) -> None:
        body = error.to_wire()
        self._warn_of(step, body.code, body.detail, body.cure)

    def _warn_of(self, step: Step, code: str, detail: str, cure: str) -> None:
        self._warnings.append(Warned(step=step, code=code, detail=detail, cure=cure))

    def _outcome(self, claimed: Claimed, me: api.Me | None, proof: proving.Proof, guide_path: str) -> Joined:
        role = me.agent.role if me is not None else self._role or DEFAULT_ROLE
        skills = tuple(s.id for s in (me.agent.skills if me is not None else self._skills or ()))
        return Joined(
            project=self._project,
            name=self._name,
            role=role,
            skills=skills,
            token=claimed.origin,
            home=str(agent_home(self._project, self._name, self._root)),
            url=self._url,
            session=proof.session,
            round_trip_ms=proof.round_trip_ms,
            in_peers=proof.in_peers,
            guide=guide_path,
            answers=self._answers(me, role, skills, proof, guide_path),
            warnings=tuple(self._warnings),
        )

    def _answers(
        self, me: api.Me | None, role: Role, skills: tuple[str, ...], proof: proving.Proof, guide_path: str
    ) -> Answers:
        acting = f"--as {self._name} --project {self._project}"
        tested = "not tested" if proof.round_trip_ms is None else f"tested in {proof.round_trip_ms:.1f} ms"
        scopes = (
            ", ".join(s.value for s in me.agent.scopes) if me is not None else "not known while the gateway is away"
        )
        squads = ", ".join(me.squads) if me is not None else ""
        return Answers(
            who_am_i=f"{self._name}, a {role} of project {self._project}",
            where_is_my_inbox=f"{subjects.inbox_filter(self._project, self._name)}, {tested}: sos agent inbox {acting}",
            what_can_i_do=f"skills: {', '.join(skills) or 'none registered'}; scopes: {scopes}; "
            f"squads: {squads or 'none yet'}",
            what_do_i_do_when_stuck=f"sos agent doctor {acting}, then {guide_path or f'sos agent recover {acting}'}; "
            f"then ask the bus: sos agent send PEER 'I am stuck: …' {acting}",
        )


_FREE_HOME = "Make the agent's home writable and free some space, then join again."


def skills_of(path: Path) -> tuple[Skill, ...]:
    """One descriptor or a list of them; `BadRequest` names the file and the field."""
    try:
        with path.open("rb") as f:
            content = f.read(MAX_SKILL_FILE_BYTES)
        if content.lstrip().startswith(b"["):
            return msgspec.json.decode(content, type=tuple[Skill, ...])
        return (msgspec.json.decode(content, type=Skill),)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise BadRequest(why=f"the skill file {path} cannot be read: {e}") from None
