"""Subjects: what a name, however hostile, can never do to one. Patterns are checked with a matcher written apart."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.wire import subjects
from sos.wire.errors import BadName, BadSubject
from sos.wire.subjects import Address, ApiCall, Beat, Fact, RegistryFact, Subject, ToAgent, ToSquad

LETTERS = "abcdefghijklmnopqrstuvwxyz"
HOSTILE_PIECES = (
    *("", "*", ">", ".", "..", "a.b", ".a", "a.", "*.*", "a.>", "@", "a@", "@b", "a@b@c", "a@b.c", "a@*"),
    *("A", "é", "\u0430", "\uff41", "\u0131", "\u212a", "\u0663", "-a", "a-", "-", "a" * 64, "a" * 9_999),
    *(" ", "\t", "\r\n", "\n", "\x00", "\x7f", "\x85", "\u2028", "\u00a0", "\ufeff", "\ud800"),
    *("_INBOX", "$JS.API.>", "$SYS", "project.q.agent.a.b", "b PUB x 1", "a\r\nPUB x 1"),
)

names = st.text(LETTERS + "0123456789-", min_size=1, max_size=63).filter(lambda t: t.strip("-") == t)
senders = names | st.builds("{}@{}".format, names, names)
nouns = st.from_regex(re.compile(r"[a-z][a-z_]{0,31}", re.ASCII), fullmatch=True)
words = st.text(LETTERS + "_", min_size=1, max_size=32)
verbs = words | st.builds("{}.{}".format, words, words)
sides = st.sampled_from(["agent", "squad"])

SHAPES: tuple[tuple[type[Subject], tuple[st.SearchStrategy[str], ...]], ...] = (
    (ToAgent, (names, names, senders)),
    (ToSquad, (names, names, senders)),
    (Fact, (names, nouns, names)),
    (Address, (names, sides, names)),
    (Beat, (names, names)),
    (ApiCall, (names, names, verbs)),
    (RegistryFact, (names, nouns, names)),
)
built = st.one_of(*(st.builds(cls, *fields) for cls, fields in SHAPES))


def spoil(text: str, bad: str, at: int) -> str:
    """`text` with `bad` in it."""
    return text[:at] + bad + text[at:]


def glue(pieces: list[str]) -> str:
    """One text of many."""
    return "".join(pieces)


def dot(pieces: list[str]) -> str:
    """Tokens with dots between."""
    return ".".join(pieces)


hostile: st.SearchStrategy[str] = (
    st.text()
    | st.sampled_from(HOSTILE_PIECES)
    | st.builds(glue, st.lists(st.sampled_from(HOSTILE_PIECES) | names, max_size=4))
    | st.builds(spoil, names, st.sampled_from(HOSTILE_PIECES), st.integers(0, 63))
)


def nats_matches(pattern: str, subject: str) -> bool:
    """NATS' own rule: `*` is one token, a last `>` is one or more; everything else is itself."""
    wanted, given_ = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given_) <= len(wanted):
            return False
        given_ = given_[: len(wanted)]
    return len(wanted) == len(given_) and all(w in {"*", g} for w, g in zip(wanted, given_, strict=True))


def is_safe(subject: str) -> bool:
    """A literal subject in plain ASCII: no wildcard, no white space, no empty token."""
    return re.fullmatch(r"[a-z0-9_@-]+(?:\.[a-z0-9_@-]+)+", subject) is not None


@given(subject=built)
def test_every_subject_comes_back_from_its_text_as_it_was(subject: Subject):
    assert subjects.parse(str(subject)) == subject


@given(subject=built)
def test_every_subject_is_literal_and_stays_in_its_project(subject: Subject):
    text = str(subject)
    assert is_safe(text)
    assert text.split(".")[1] == subject.project


@given(data=st.data(), shape=st.sampled_from(SHAPES), bad=hostile)
def test_no_text_gives_a_wildcard_another_number_of_tokens_or_another_project(
    data: st.DataObject, shape: tuple[type[Subject], tuple[st.SearchStrategy[str], ...]], bad: str
):
    cls, strategies = shape
    good = [data.draw(s) for s in strategies]
    tokens = len(str(cls(*good)).split(".")) - (good[-1].count(".") if cls is ApiCall else 0)
    at = data.draw(st.integers(0, len(good) - 1))
    fields = [*good[:at], bad, *good[at + 1 :]]
    try:
        text = str(cls(*fields))
    except (BadName, BadSubject):
        return
    assert is_safe(text)
    assert text.split(".")[1] == fields[0]
    assert len(text.split(".")) == tokens + (fields[-1].count(".") if cls is ApiCall else 0)
    assert subjects.parse(text) == cls(*fields)


@pytest.mark.parametrize("bad", HOSTILE_PIECES)
def test_hostile_text_is_refused_as_a_recipient_a_sender_and_a_project(bad: str):
    for subject in (ToAgent("p", bad, "a"), ToAgent("p", "a", bad), ToSquad("p", "a", bad), Beat(bad, "a")):
        with pytest.raises((BadName, BadSubject)):
            str(subject)


@given(text=hostile | st.builds(dot, st.lists(hostile | st.sampled_from(["project", "agent", "api"]), max_size=7)))
def test_what_parses_is_exactly_what_a_builder_builds(text: str):
    try:
        found = subjects.parse(text)
    except BadSubject:
        return
    assert str(found) == text
    assert is_safe(text)


@given(subject=built, bad=st.sampled_from(HOSTILE_PIECES), at=st.integers(0, 200), cut=st.integers(0, 3))
def test_a_spoiled_subject_parses_only_if_a_builder_could_have_built_it(subject: Subject, bad: str, at: int, cut: int):
    text = str(subject)
    spoiled = text[:at] + bad + text[at + cut :]
    try:
        found = subjects.parse(spoiled)
    except BadSubject:
        return
    assert str(found) == spoiled
    assert is_safe(spoiled)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "project", "project.p", "project.p.agent", "project.p.agent.a", "project.p.agent.a.b.c"),
        *("project.p.agent.*.b", "project.p.agent.>", "project.p.agent.a.b ", " project.p.agent.a.b"),
        *("project.p.agent.a.b\n", "Project.p.agent.a.b", "project.P.agent.a.b", "project.p.agent..b"),
        *("project.p.address.queue.a", "project.p.event.Noun.a", "project.p.api.a.b.c.d", "project.p.api.a..b"),
        *("registry.p.noun", "registry.p.noun.a.b", "registry.*.noun.a", "_INBOX.a", "$JS.API.INFO", "project.p.api.a"),
    ],
)
def test_what_is_not_a_subject_of_the_bus_is_refused(text: str):
    with pytest.raises(BadSubject):
        subjects.parse(text)


@given(subject=built)
def test_parse_message_takes_messages_only(subject: Subject):
    if isinstance(subject, ToAgent | ToSquad):
        assert subjects.parse_message(str(subject)) == subject
    else:
        with pytest.raises(BadSubject):
            subjects.parse_message(str(subject))


# Few names, and those that are words of the grammar too: whatever can be mixed up is.
confusing = st.sampled_from(["a", "b", "x", "agent", "squad", "event", "api", "address", "project"])
confusing_sender = confusing | st.builds("{}@{}".format, confusing, confusing)
confusing_verb = st.sampled_from(["a", "x", "api", "agent", "a.x", "api.x", "squad.join"])
confused = st.one_of(
    st.builds(ToAgent, confusing, confusing, confusing_sender),
    st.builds(ToSquad, confusing, confusing, confusing_sender),
    st.builds(Fact, confusing, confusing, confusing),
    st.builds(Address, confusing, sides, confusing),
    st.builds(Beat, confusing, confusing),
    st.builds(ApiCall, confusing, confusing, confusing_verb),
    st.builds(RegistryFact, confusing, confusing, confusing),
)

Predicate = Callable[[Subject, str, str], bool]
PATTERNS: dict[str, tuple[Callable[[str, str], tuple[str, ...]], Predicate]] = {
    "messages_of": (
        lambda p, _: subjects.messages_of(p),
        lambda s, p, _: isinstance(s, ToAgent | ToSquad) and s.project == p,
    ),
    "facts_of": (lambda p, _: subjects.facts_of(p), lambda s, p, _: isinstance(s, Fact | Address) and s.project == p),
    "registry_facts": (lambda _p, _n: (subjects.REGISTRY_FACTS,), lambda s, _p, _n: isinstance(s, RegistryFact)),
    "inbox_filter": (
        lambda p, n: (subjects.inbox_filter(p, n),),
        lambda s, p, n: isinstance(s, ToAgent) and (s.project, s.to) == (p, n),
    ),
    "squad_filter": (
        lambda p, n: (subjects.squad_filter(p, n),),
        lambda s, p, n: isinstance(s, ToSquad) and (s.project, s.squad) == (p, n),
    ),
    "send_pattern": (
        lambda p, n: (subjects.send_pattern(p, n),),
        lambda s, p, n: isinstance(s, ToAgent) and (s.project, s.sender) == (p, n),
    ),
    "broadcast_pattern": (
        lambda p, n: (subjects.broadcast_pattern(p, n),),
        lambda s, p, n: isinstance(s, ToSquad) and (s.project, s.sender) == (p, n),
    ),
    "api_grant": (
        lambda p, n: (subjects.api_grant(p, n),),
        lambda s, p, n: isinstance(s, ApiCall) and (s.project, s.agent) == (p, n),
    ),
}


@pytest.mark.parametrize("which", PATTERNS)
@given(project=confusing, name=confusing, subject=confused)
def test_a_pattern_matches_the_subjects_it_is_for_and_no_other(which: str, project: str, name: str, subject: Subject):
    patterns, belongs = PATTERNS[which]
    hits = [p for p in patterns(project, name) if nats_matches(p, str(subject))]
    assert len(hits) == (1 if belongs(subject, project, name) else 0)


@given(project=confusing, subject=confused)
def test_an_api_pattern_matches_every_agents_calls_in_one_project(project: str, subject: Subject):
    belongs = isinstance(subject, ApiCall) and subject.project == project
    assert nats_matches(subjects.api_pattern(project), str(subject)) == belongs


@given(call=st.builds(ApiCall, confusing, confusing, confusing_verb))
def test_a_call_is_parsed_by_both_parsers_alike(call: ApiCall):
    assert subjects.parse_call(str(call)) == subjects.parse(str(call)) == call


@pytest.mark.parametrize("verb", ["Tasks.List", "a.b.c", "tasks.*", "x" * 500, "é", "peers peers"])
def test_a_verb_that_could_not_be_one_still_tells_who_calls(verb: str):
    assert subjects.parse_call(f"project.acme.api.ann.{verb}") == ApiCall("acme", "ann", verb)


@pytest.mark.parametrize(
    "subject",
    [
        "project.acme.api.ann",
        "project.acme.api",
        "project.acme.api.Ann.peers",
        "project.a*.api.ann.peers",
        "project.acme.api..peers",
        "project.acme.agent.ann.bob",
        "registry.acme.agent.ann",
        "",
    ],
)
def test_what_no_agent_can_be_named_in_is_no_call(subject: str):
    with pytest.raises(BadSubject):
        subjects.parse_call(subject)


@given(project=confusing, address=st.builds(Address, confusing, sides, confusing))
def test_the_address_grant_allows_reading_the_addresses_of_its_project_alone(project: str, address: Address):
    read = subjects.address_read(address)
    assert nats_matches(subjects.address_grant(project), read) == (address.project == project)
    assert not nats_matches(subjects.address_grant(project), "$JS.API.DIRECT.GET.EVENTS")
    assert not nats_matches(subjects.address_grant(project), f"$JS.API.DIRECT.GET.EVENTS.{Fact(project, 'a', 'b')}")


@given(mine=names, other=names)
def test_pulling_and_acknowledging_are_granted_for_the_own_consumer_alone(mine: str, other: str):
    ack = f"$JS.ACK.MESSAGES.{other}.1.2.3.4.5"
    assert nats_matches(subjects.ack_grant(mine), ack) == (mine == other)
    assert nats_matches(subjects.pull(mine), f"$JS.API.CONSUMER.MSG.NEXT.MESSAGES.{other}") == (mine == other)
    assert "*" not in subjects.pull(mine)


@pytest.mark.parametrize("bad", HOSTILE_PIECES)
def test_no_pattern_is_built_from_hostile_text(bad: str):
    one = (subjects.messages_of, subjects.facts_of, subjects.address_grant, subjects.pull, subjects.ack_grant)
    two = (subjects.inbox_filter, subjects.squad_filter, subjects.send_pattern)
    more = (subjects.broadcast_pattern, subjects.api_grant)
    for build in one:
        with pytest.raises(BadName):
            build(bad)
    for build in (*two, *more):
        with pytest.raises(BadName):
            build("p", bad)
        with pytest.raises(BadName):
            build(bad, "a")
    with pytest.raises(BadName):
        subjects.api_pattern(bad)
