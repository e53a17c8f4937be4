-- Schema 2. Positions of entries, what those who follow them have to tell, and what comes in.

-- The order in which entries were recorded, whatever deployment they are of. No row is ever removed:
-- the next position is the one after the newest.
CREATE TABLE positions (
    position INTEGER NOT NULL PRIMARY KEY,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

-- A process of the version before may have the database open, and would go on to record entries that
-- no follower ever learns of.
CREATE TRIGGER entries_have_positions BEFORE INSERT ON entries
WHEN NOT EXISTS (
    SELECT 1 FROM (SELECT doc FROM positions ORDER BY position DESC LIMIT 1)
    WHERE doc ->> '$.deployment' = NEW.deployment AND doc ->> '$.seq' = NEW.seq
)
BEGIN
    SELECT RAISE(ABORT, 'a newer ee-deploy has changed the database meanwhile');
END;

-- How far each follower has come; each document is the position.
CREATE TABLE cursors (
    follower TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (follower)
) STRICT, WITHOUT ROWID;

-- Without the Z at the end, times of different precision are in order as text.
CREATE TABLE letters (
    id INTEGER NOT NULL PRIMARY KEY,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    follower TEXT AS (doc ->> '$.follower'),
    project TEXT AS (doc ->> '$.project'),
    channel TEXT AS (doc ->> '$.channel'),
    key TEXT AS (doc ->> '$.key'),
    state TEXT AS (doc ->> '$.state'),
    created TEXT AS (rtrim(doc ->> '$.created_at', 'Z')),
    due TEXT AS (rtrim(doc ->> '$.due_at', 'Z'))
) STRICT;
CREATE UNIQUE INDEX letters_once ON letters (follower, project, channel, key);
CREATE INDEX letters_due ON letters (follower, state, due);
CREATE INDEX letters_of_project ON letters (project, state);

-- Projects whose automatic deploys are off.
CREATE TABLE automatic_off (
    project TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (project)
) STRICT, WITHOUT ROWID;

-- Small things others remember; each document is the value.
CREATE TABLE states (
    key TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (key)
) STRICT, WITHOUT ROWID;

-- Deliveries of webhooks. All that finds one is part of its key, so that damage to what it says does not
-- let it be taken in again.
CREATE TABLE deliveries (
    project TEXT NOT NULL,
    number INTEGER NOT NULL,
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (project, number, provider, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries_once ON deliveries (project, provider, id);
