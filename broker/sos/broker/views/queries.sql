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
-- The whole row, new or changed.
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

-- name: agents_by_token
-- The agents that hold, or held before the last rotation, the token with this SHA-256, in whatever state.
SELECT * FROM agents WHERE token_hash = :hash
UNION ALL
SELECT * FROM agents WHERE old_token_hash = :hash AND old_token_hash <> '';

-- name: roster
-- How many custom agents a project has that are not revoked, and the last sequence of any agent's facts in it.
SELECT
    count(*) FILTER (WHERE origin = 'custom' AND state <> 'revoked') AS custom,
    coalesce(max(seq), 0) AS seq
FROM agents WHERE project = :project;

-- name: save_agent
-- The whole row, new or changed.
INSERT INTO agents (
    project, name, model, charter, role, origin, scopes, skills, token_hash, token_tail, old_token_hash,
    old_token_until, epoch, old_epoch, install, joined_at, state, minted_at, seq
) VALUES (
    :project, :name, :model, :charter, :role, :origin, :scopes, :skills, :token_hash, :token_tail, :old_token_hash,
    :old_token_until, :epoch, :old_epoch, :install, :joined_at, :state, :minted_at, :seq
)
ON CONFLICT (project, name) DO UPDATE SET
    model = excluded.model, charter = excluded.charter, role = excluded.role, origin = excluded.origin,
    scopes = excluded.scopes, skills = excluded.skills, token_hash = excluded.token_hash,
    token_tail = excluded.token_tail, old_token_hash = excluded.old_token_hash,
    old_token_until = excluded.old_token_until, epoch = excluded.epoch, old_epoch = excluded.old_epoch,
    install = excluded.install, joined_at = excluded.joined_at, state = excluded.state,
    minted_at = excluded.minted_at, seq = excluded.seq;

-- name: catalogue_entry
-- One platform-managed agent, listed or not.
SELECT * FROM catalogue WHERE name = :name;

-- name: catalogue
-- The platform-managed agents that are listed, by name.
SELECT * FROM catalogue WHERE listed ORDER BY name;

-- name: save_catalogue_entry
-- The whole row, new or changed.
INSERT INTO catalogue (name, model, charter, role, scopes, skills, added_at, listed, seq)
VALUES (:name, :model, :charter, :role, :scopes, :skills, :added_at, :listed, :seq)
ON CONFLICT (name) DO UPDATE SET
    model = excluded.model, charter = excluded.charter, role = excluded.role, scopes = excluded.scopes,
    skills = excluded.skills, added_at = excluded.added_at, listed = excluded.listed, seq = excluded.seq;

-- name: escalation
-- Where it is reported what concerns a project, or the operator (an empty slug).
SELECT of_ AS of, to_ AS "to", seq FROM escalations WHERE of_ = :of;

-- name: save_escalation
-- The whole row, new or changed.
INSERT INTO escalations (of_, to_, seq) VALUES (:of, :to, :seq)
ON CONFLICT (of_) DO UPDATE SET to_ = excluded.to_, seq = excluded.seq;

-- name: disk
-- A machine's disk as of its last crossing.
SELECT * FROM disks WHERE host = :host;

-- name: save_disk
-- The whole row, new or changed.
INSERT INTO disks (host, level, used_percent, crossed_at, seq)
VALUES (:host, :level, :used_percent, :crossed_at, :seq)
ON CONFLICT (host) DO UPDATE SET
    level = excluded.level, used_percent = excluded.used_percent, crossed_at = excluded.crossed_at,
    seq = excluded.seq;

-- name: leak
-- What was found in one message.
SELECT * FROM leaks WHERE project = :project AND message_seq = :message_seq;

-- name: leaks
-- All that was found in a project's messages, oldest first.
SELECT * FROM leaks WHERE project = :project ORDER BY message_seq;

-- name: save_leak
-- A leak is reported once.
INSERT INTO leaks (project, message_seq, sender, secrets, found_at, seq)
VALUES (:project, :message_seq, :sender, :secrets, :found_at, :seq)
ON CONFLICT (project, message_seq) DO UPDATE SET
    sender = excluded.sender, secrets = excluded.secrets, found_at = excluded.found_at, seq = excluded.seq;

-- name: tap
-- Up to which message this gateway has looked for secrets.
SELECT seq FROM taps WHERE project = :project;

-- name: save_tap
-- It has looked up to here.
INSERT INTO taps (project, seq) VALUES (:project, :seq) ON CONFLICT (project) DO UPDATE SET seq = excluded.seq;

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
-- The keys of an agent's sessions that have not ended.
SELECT * FROM sessions WHERE project = :project AND agent = :agent AND NOT ended ORDER BY nkey;

-- name: sessions
-- The keys of a project's open sessions whose credential has not expired at :at.
SELECT * FROM sessions WHERE project = :project AND expires_at > :at AND NOT ended ORDER BY agent, opened_at, nkey;

-- name: keys_of
-- Every key of an agent whose credential has not expired at :at, its session ended or not.
SELECT nkey, expires_at FROM sessions WHERE project = :project AND agent = :agent AND expires_at > :at ORDER BY nkey;

-- name: sessions_over
-- Sessions of which every key has expired at :at, and that nobody has ended.
SELECT project, agent, session FROM sessions WHERE NOT ended
GROUP BY project, agent, session HAVING max(expires_at) <= :at ORDER BY project, agent, session;

-- name: void_keys
-- The keys, of one project or of all, that are to be refused at :at although they have not expired: signed for an
-- earlier epoch of their agent, or for an agent that is not active. Asked every second: it looks at agents that were
-- ever cut, few, and of each at the keys that have not expired.
SELECT s.project, s.nkey, s.agent, s.session, s.expires_at, s.ended
FROM agents AS a CROSS JOIN sessions AS s ON s.project = a.project AND s.agent = a.name -- in this order
WHERE (a.epoch > 0 OR a.state <> 'active') AND (:project IS NULL OR a.project = :project) AND s.expires_at > :at AND (
    a.state <> 'active'
    OR s.epoch < CASE WHEN a.old_token_until IS NOT NULL AND a.old_token_until > :at THEN a.old_epoch ELSE a.epoch END
)
ORDER BY s.project, s.nkey;

-- name: any_session
-- Whether there ever was one.
SELECT 1 FROM sessions WHERE project = :project LIMIT 1;

-- name: key_holder
-- Whose key it is, in whatever project, also of a session that ended.
SELECT project, agent, epoch, expires_at FROM sessions WHERE nkey = :nkey ORDER BY expires_at DESC LIMIT 1;

-- name: save_session
-- One key of one run. A revocation is of the key, whatever was signed for it: a key that is signed for again counts as
-- of the first epoch and until the last expiry, or opening a session with it once more would revive what was cut.
INSERT INTO sessions (project, agent, nkey, session, client, model, install, opened_at, expires_at, epoch, ended)
VALUES (:project, :agent, :nkey, :session, :client, :model, :install, :opened_at, :expires_at, :epoch, 0)
ON CONFLICT (project, agent, nkey) DO UPDATE SET
    session = excluded.session, client = excluded.client, model = excluded.model, install = excluded.install,
    opened_at = excluded.opened_at, expires_at = max(expires_at, excluded.expires_at),
    epoch = min(epoch, excluded.epoch), ended = 0;

-- name: begin_run
-- A run is on record from its first credential on, and a renewal changes nothing.
INSERT INTO runs (project, agent, session, client, model, install, opened_at)
VALUES (:project, :agent, :session, :client, :model, :install, :opened_at)
ON CONFLICT (project, session, agent) DO NOTHING;

-- name: end_run
-- How it ended, the first time.
UPDATE runs SET ended_at = :ended_at, reason = :reason
WHERE project = :project AND agent = :agent AND session = :session AND ended_at IS NULL;

-- name: runs
-- The runs of an agent, the latest first.
SELECT * FROM runs WHERE project = :project AND agent = :agent ORDER BY opened_at DESC, session LIMIT :limit;

-- name: run
-- One run. Two agents have one under the same name only if somebody wrote facts by hand: then the earlier one.
SELECT * FROM runs WHERE project = :project AND session = :session ORDER BY opened_at, agent;

-- name: end_key
-- A key of a session that ended. It stays: until it expires a revocation must reach it.
UPDATE sessions SET ended = 1 WHERE project = :project AND agent = :agent AND nkey = :nkey;

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

-- name: dump_catalogue
-- The whole table in the order of its key.
SELECT * FROM catalogue ORDER BY name;

-- name: dump_disks
-- The whole table in the order of its key.
SELECT * FROM disks ORDER BY host;

-- name: dump_escalations
-- The whole table in the order of its key.
SELECT * FROM escalations ORDER BY of_;

-- name: dump_leaks
-- The whole table in the order of its key.
SELECT * FROM leaks ORDER BY project, message_seq;

-- name: dump_runs
-- The whole table in the order of its key.
SELECT * FROM runs ORDER BY project, session, agent;
