-- name: cursor
-- How far one stream is folded in.
SELECT seq, hash FROM cursors WHERE stream = :stream;

-- name: cursors
-- How far every stream is folded in.
SELECT stream, seq, hash FROM cursors ORDER BY stream;

-- name: save_cursor
-- Commits with the rows of its batch, which makes the fold exactly-once.
INSERT INTO cursors (stream, seq, hash) VALUES (:stream, :seq, :hash)
ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, hash = excluded.hash;

-- name: project
-- One project by slug.
SELECT * FROM projects WHERE slug = :slug;

-- name: projects
-- All projects, by slug.
SELECT * FROM projects ORDER BY slug;

-- name: project_by_tenant_token
-- The project whose owner holds the token with this SHA-256.
SELECT * FROM projects WHERE tenant_token_hash = :hash;

-- name: save_project
-- A project never changes after it was created.
INSERT INTO projects (slug, project_id, tier, tenant_token_hash, tenant_token_tail, created_at, seq)
VALUES (:slug, :project_id, :tier, :tenant_token_hash, :tenant_token_tail, :created_at, :seq)
ON CONFLICT (slug) DO UPDATE SET
    project_id = excluded.project_id, tier = excluded.tier, tenant_token_hash = excluded.tenant_token_hash,
    tenant_token_tail = excluded.tenant_token_tail, created_at = excluded.created_at, seq = excluded.seq;

-- name: agent
-- One agent by name, in whatever state.
SELECT * FROM agents WHERE project = :project AND name = :name;

-- name: agents
-- All agents of a project, the revoked ones too, by name.
SELECT * FROM agents WHERE project = :project ORDER BY name;

-- name: agent_by_token
-- The agent that holds the token with this SHA-256, in whatever state.
SELECT * FROM agents WHERE token_hash = :hash;

-- name: save_agent
-- The whole row, new or changed.
INSERT INTO agents (project, name, model, charter, scopes, token_hash, token_tail, state, minted_at, seq)
VALUES (:project, :name, :model, :charter, :scopes, :token_hash, :token_tail, :state, :minted_at, :seq)
ON CONFLICT (project, name) DO UPDATE SET
    model = excluded.model, charter = excluded.charter, scopes = excluded.scopes, token_hash = excluded.token_hash,
    token_tail = excluded.token_tail, state = excluded.state, minted_at = excluded.minted_at, seq = excluded.seq;

-- name: squad
-- One squad with its members, a row each, or one row without an agent if it has none.
SELECT s.project, s.squad, s.purpose, s.created_at, s.seq, m.agent, m.summary, m.joined_at, m.from_seq
FROM squads AS s LEFT JOIN memberships AS m ON m.project = s.project AND m.squad = s.squad
WHERE s.project = :project AND s.squad = :squad
ORDER BY m.agent;

-- name: squads
-- All squads of a project with their members, as in the query squad.
SELECT s.project, s.squad, s.purpose, s.created_at, s.seq, m.agent, m.summary, m.joined_at, m.from_seq
FROM squads AS s LEFT JOIN memberships AS m ON m.project = s.project AND m.squad = s.squad
WHERE s.project = :project
ORDER BY s.squad, m.agent;

-- name: save_squad
-- The squad without its members.
INSERT INTO squads (project, squad, purpose, created_at, seq)
VALUES (:project, :squad, :purpose, :created_at, :seq)
ON CONFLICT (project, squad) DO UPDATE SET
    purpose = excluded.purpose, created_at = excluded.created_at, seq = excluded.seq;

-- name: memberships_of
-- The squads one agent is in, and from which sequence of MESSAGES on.
SELECT squad, from_seq FROM memberships WHERE project = :project AND agent = :agent ORDER BY squad;

-- name: save_membership
-- One member, new or with a new summary.
INSERT INTO memberships (project, squad, agent, summary, joined_at, from_seq)
VALUES (:project, :squad, :agent, :summary, :joined_at, :from_seq)
ON CONFLICT (project, squad, agent) DO UPDATE SET
    summary = excluded.summary, joined_at = excluded.joined_at, from_seq = excluded.from_seq;

-- name: drop_membership
-- One member less.
DELETE FROM memberships WHERE project = :project AND squad = :squad AND agent = :agent;

-- name: sessions_of
-- Every key the fold still holds of one agent, expired or not.
SELECT * FROM sessions WHERE project = :project AND agent = :agent ORDER BY nkey;

-- name: sessions
-- The keys of a project's agents whose credential has not expired at :at.
SELECT * FROM sessions WHERE project = :project AND expires_at > :at ORDER BY agent, opened_at, nkey;

-- name: save_session
-- One key of one run.
INSERT INTO sessions (project, agent, nkey, session, client, model, install, opened_at, expires_at)
VALUES (:project, :agent, :nkey, :session, :client, :model, :install, :opened_at, :expires_at)
ON CONFLICT (project, agent, nkey) DO UPDATE SET
    session = excluded.session, client = excluded.client, model = excluded.model, install = excluded.install,
    opened_at = excluded.opened_at, expires_at = excluded.expires_at;

-- name: drop_session
-- A key that the fold has forgotten because it expired.
DELETE FROM sessions WHERE project = :project AND agent = :agent AND nkey = :nkey;

-- name: address
-- One address, in whatever state.
SELECT * FROM addresses WHERE project = :project AND of = :of AND name = :name;

-- name: addresses
-- All addresses of a project, the closed ones too.
SELECT * FROM addresses WHERE project = :project ORDER BY of, name;

-- name: save_address
-- The whole row, new or changed.
INSERT INTO addresses (project, of, name, state, members, seq)
VALUES (:project, :of, :name, :state, :members, :seq)
ON CONFLICT (project, of, name) DO UPDATE SET
    state = excluded.state, members = excluded.members, seq = excluded.seq;

-- name: counts
-- How many agents that are not revoked, and how many squads, a project has.
SELECT
    (SELECT count(*) FROM agents WHERE project = :project AND state <> 'revoked') AS agents,
    (SELECT count(*) FROM squads WHERE project = :project) AS squads;

-- name: dump_addresses
-- The whole table in the order of its key.
SELECT * FROM addresses ORDER BY project, of, name;

-- name: dump_agents
-- The whole table in the order of its key.
SELECT * FROM agents ORDER BY project, name;

-- name: dump_cursors
-- The whole table in the order of its key.
SELECT * FROM cursors ORDER BY stream;

-- name: dump_memberships
-- The whole table in the order of its key.
SELECT * FROM memberships ORDER BY project, squad, agent;

-- name: dump_projects
-- The whole table in the order of its key.
SELECT * FROM projects ORDER BY slug;

-- name: dump_sessions
-- The whole table in the order of its key.
SELECT * FROM sessions ORDER BY project, agent, nkey;

-- name: dump_squads
-- The whole table in the order of its key.
SELECT * FROM squads ORDER BY project, squad;
