-- What agents are, where they run, and how they are cut off.

-- from REGISTRY
ALTER TABLE agents ADD COLUMN role TEXT NOT NULL DEFAULT 'specialist';
ALTER TABLE agents ADD COLUMN origin TEXT NOT NULL DEFAULT 'custom';
ALTER TABLE agents ADD COLUMN skills TEXT NOT NULL DEFAULT '[]'; -- a JSON array
ALTER TABLE agents ADD COLUMN old_token_hash TEXT NOT NULL DEFAULT ''; -- good until old_token_until
ALTER TABLE agents ADD COLUMN old_token_until TEXT;
ALTER TABLE agents ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0; -- credentials of an earlier one are void
ALTER TABLE agents ADD COLUMN old_epoch INTEGER NOT NULL DEFAULT 0; -- except these, until old_token_until
ALTER TABLE agents ADD COLUMN install TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN joined_at TEXT;

CREATE INDEX agents_by_old_token ON agents (old_token_hash) WHERE old_token_hash <> '';

-- from EVENTS
ALTER TABLE sessions ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0; -- of the agent, when the key was signed for
ALTER TABLE sessions ADD COLUMN ended INTEGER NOT NULL DEFAULT 0; -- its session is over

CREATE INDEX sessions_open ON sessions (project, agent, session, expires_at) WHERE NOT ended;
CREATE INDEX agents_cut ON agents (project, name) WHERE epoch > 0 OR state <> 'active';
CREATE INDEX sessions_by_expiry ON sessions (project, agent, expires_at, epoch);
CREATE INDEX sessions_by_nkey ON sessions (nkey);

-- from EVENTS, together with sessions: every run there was
CREATE TABLE runs (
    project   TEXT NOT NULL,
    agent     TEXT NOT NULL,
    session   TEXT NOT NULL,
    client    TEXT NOT NULL,
    model     TEXT NOT NULL,
    install   TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    ended_at  TEXT,
    reason    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (project, session, agent)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_agent ON runs (project, agent, opened_at);

-- Sessions that were on record before there was a table of runs.
INSERT INTO runs (project, agent, session, client, model, install, opened_at)
SELECT project, agent, session, client, model, install, min(opened_at) FROM sessions GROUP BY project, session, agent;

-- from REGISTRY
CREATE TABLE catalogue (
    name     TEXT NOT NULL PRIMARY KEY,
    model    TEXT NOT NULL,
    charter  TEXT NOT NULL,
    role     TEXT NOT NULL,
    scopes   TEXT NOT NULL, -- a JSON array
    skills   TEXT NOT NULL, -- a JSON array
    added_at TEXT NOT NULL,
    listed   INTEGER NOT NULL,
    seq      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- from REGISTRY
CREATE TABLE escalations (
    of_ TEXT NOT NULL PRIMARY KEY, -- a project's slug, empty for the operator's own
    to_ TEXT NOT NULL,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- from REGISTRY
CREATE TABLE disks (
    host         TEXT NOT NULL PRIMARY KEY,
    level        TEXT NOT NULL,
    used_percent REAL NOT NULL,
    crossed_at   TEXT NOT NULL,
    seq          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- from EVENTS
CREATE TABLE leaks (
    project     TEXT NOT NULL,
    message_seq INTEGER NOT NULL,
    sender      TEXT NOT NULL,
    secrets     TEXT NOT NULL, -- a JSON array, none of which holds the secret
    found_at    TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (project, message_seq)
) STRICT, WITHOUT ROWID;

-- No projection: up to which message this gateway has looked for secrets. Without it, it looks again from the start.
CREATE TABLE taps (
    project TEXT NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
