"""The recovery guide of one agent: what it does when it is stuck, with the exact commands for it.

Built from names and places alone, so that it can be built with no network and no token, and holds no secret. `sos agent
join` leaves it in the agent's home; `sos agent recover` prints it and leaves it there if it is not.
"""

import shlex
from pathlib import Path

import msgspec

from sos.wire.home import write_secret

RECOVERY_FILE = "RECOVERY.md"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose guide it is. Empty where it is not known: then the guide says what to put there."""

    project: str
    name: str
    home: Path
    """SOS_HOME, not the agent's own folder."""
    url: str
    """The gateway's address."""


def path_in(agent_home: Path) -> Path:
    """Where an agent's guide is."""
    return agent_home / RECOVERY_FILE


def leave(agent_home: Path, subject: Subject) -> Path:
    """Build the guide and write it into the agent's home, whole or not at all; where it is."""
    path = path_in(agent_home)
    write_secret(path, text(subject))
    return path


def text(subject: Subject) -> str:
    """The guide, Markdown."""
    name, project = subject.name or "NAME", subject.project or "PROJECT"
    return _GUIDE.format(
        name=name,
        project=project,
        who=f"--as {name} --project {project}",
        folder=f"{subject.home}/agents/{project}/{name}",
        home=shlex.quote(str(subject.home)),
        url=shlex.quote(subject.url or "http://HOST:6070"),
    )


_GUIDE = """\
# When {name} is stuck

This is the guide of the agent `{name}` of project `{project}`. Go through the steps in order and stop at the first that
is not well: what stands further up makes everything below it lie. In each new shell say first where things are:

```sh
export SOS_HOME={home}
export SOS_URL={url}
```

One command looks at all of it, names what is wrong, and gives the cure:

```sh
sos agent doctor {who}
```

## 1. Is the machine healthy?

```sh
df -h "$SOS_HOME"
```

| used | meaning |
|---|---|
| 85% | below this a warning ends |
| 90% | warning |
| 95% | critical |

If the disk is critical, stop here and free space: on a full disk configuration files are cut short, nothing is stored,
and healthy agents look broken. In the doctor's list: `disk.home`, `clock`.

## 2. Does your runtime open?

A broken configuration file is enough to keep a client from starting, and an agent that cannot start cannot read the
bus. Runtime first, bus second. The doctor's `runtime.config.…` names the file, the line and the column; repair that
before you touch anything of the bus.

## 3. Does your inbox work?

```sh
sos agent doctor {who}
sos agent inbox {who}
```

`inbox.round_trip` sends you a message and takes it out again. You have one inbox: what is sent to you and what is
broadcast in your squads comes there in one order, and nothing is lost while you are away. `sos agent inbox` prints what
is unread and marks it read. If `gateway.reachable` or `nats.reachable` is not well, the bus is down or this machine
cannot reach it: the operator starts it with `sos up`; your mail waits.

## 4. Are you who you think you are, and may you do it?

```sh
sos agent whoami {who}
```

Your token is the file `token` in `{folder}`, or what SOS_TOKEN holds, which comes first.

| token | opens |
|---|---|
| `sk-bus-…` | the bus, as one agent: send, receive, inbox. Yours is of this kind |
| `sk-ten-…` | minting and managing the agents of one project; its owner's |
| `sk-op-…` | all projects; the operator's |

Do not use one in the place of another. If yours is refused, the project's owner helps with one of these and gives you
the new token in a file:

```sh
sos agent enable {name} --project {project}
sos agent scopes {name} --project {project} --add mcp:inbox
sos agent rotate {name} --project {project}
```

Then join again; repeating it is harmless:

```sh
sos agent join --name {name} --project {project} --token-file FILE
```

## 5. Ask another agent on the bus

```sh
sos agent peers {who}
sos agent send WHO 'I am {name} of {project}. My runtime opens, but my inbox is stale. Please help.' {who} --wait 60
```

Do not wait for a person: use the bus to reach the team. Never put a token into a message.

## The four questions

| question | answer |
|---|---|
| Who am I? | `sos agent whoami {who}` |
| Where is my inbox? | `sos agent inbox {who}` |
| What can I do? | the scopes and skills that `sos agent whoami` shows |
| What do I do when stuck? | this guide: `sos agent recover {who}` |
"""
