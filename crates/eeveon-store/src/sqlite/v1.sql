-- Schema 1. Every row is a JSON document under a key. `sum` is the CRC-32 of the table's name, the
-- key and the document: a row with a flipped bit is refused instead of believed. Columns made from a
-- document serve only to find it.

-- Numbers handed out; each document is the last one.
CREATE TABLE counters (
    name TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

-- The journals.
CREATE TABLE entries (
    deployment INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (deployment, seq)
) STRICT, WITHOUT ROWID;

-- One summary per journal, changed together with it.
CREATE TABLE deployments (
    id INTEGER NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    project TEXT AS (doc ->> '$.deployment.release.project'),
    open INTEGER AS (doc ->> '$.deployment.outcome' IS NULL),
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deployments_of_project ON deployments (project, id);
CREATE INDEX deployments_open ON deployments (id) WHERE open = 1;

CREATE TABLE releases (
    project TEXT NOT NULL,
    number INTEGER NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    project TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (project, commit_id)
) STRICT, WITHOUT ROWID;

-- The newest lease of each name, also when it was given back.
CREATE TABLE leases (
    name TEXT NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

CREATE TABLE cancel_requests (
    deployment INTEGER NOT NULL,
    doc TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (deployment)
) STRICT, WITHOUT ROWID;
