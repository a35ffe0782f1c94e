-- The views: what the streams say, folded. Each table is fed by one stream only, so that the order in which streams
-- are read cannot matter. `seq` is the last sequence of the row's own subject: what the next append must expect.
-- Moments are text, UTC, always with microseconds, so that they sort as text.

CREATE TABLE cursors (
    stream TEXT NOT NULL PRIMARY KEY, -- REGISTRY, or EVENTS/<project>
    seq    INTEGER NOT NULL,          -- everything up to here is folded in
    hash   TEXT NOT NULL              -- of that record, for a chained stream; else empty
) STRICT, WITHOUT ROWID;

-- from REGISTRY
CREATE TABLE projects (
    slug              TEXT NOT NULL PRIMARY KEY,
    project_id        TEXT NOT NULL,
    tier              TEXT NOT NULL,
    tenant_token_hash TEXT NOT NULL,
    tenant_token_tail TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    seq               INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX projects_by_tenant_token ON projects (tenant_token_hash);

-- from REGISTRY
CREATE TABLE agents (
    project    TEXT NOT NULL,
    name       TEXT NOT NULL,
    model      TEXT NOT NULL,
    charter    TEXT NOT NULL,
    scopes     TEXT NOT NULL, -- a JSON array
    token_hash TEXT NOT NULL,
    token_tail TEXT NOT NULL,
    state      TEXT NOT NULL,
    minted_at  TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_by_token ON agents (token_hash);

-- from EVENTS
CREATE TABLE squads (
    project    TEXT NOT NULL,
    squad      TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    created_at TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (project, squad)
) STRICT, WITHOUT ROWID;

-- from EVENTS, together with squads
CREATE TABLE memberships (
    project   TEXT NOT NULL,
    squad     TEXT NOT NULL,
    agent     TEXT NOT NULL,
    summary   TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    from_seq  INTEGER NOT NULL, -- of MESSAGES: what is older was before its time
    PRIMARY KEY (project, squad, agent),
    FOREIGN KEY (project, squad) REFERENCES squads (project, squad)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_by_agent ON memberships (project, agent, squad, from_seq);

-- from EVENTS
CREATE TABLE sessions (
    project    TEXT NOT NULL,
    agent      TEXT NOT NULL,
    nkey       TEXT NOT NULL,
    session    TEXT NOT NULL,
    client     TEXT NOT NULL,
    model      TEXT NOT NULL,
    install    TEXT NOT NULL,
    opened_at  TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (project, agent, nkey)
) STRICT, WITHOUT ROWID;

-- from EVENTS
CREATE TABLE addresses (
    project TEXT NOT NULL,
    of      TEXT NOT NULL,
    name    TEXT NOT NULL,
    state   TEXT NOT NULL,
    members INTEGER, -- of a squad
    seq     INTEGER NOT NULL,
    PRIMARY KEY (project, of, name)
) STRICT, WITHOUT ROWID;
