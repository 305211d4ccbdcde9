CREATE TABLE functions (
    key        INTEGER PRIMARY KEY,
    project    TEXT NOT NULL,
    name       TEXT NOT NULL,
    enabled    INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;

-- Digests stand as 64 hex digits, so that a prefix is a range of the index.
CREATE TABLE versions (
    function   INTEGER NOT NULL REFERENCES functions (key),
    number     INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    bundle     TEXT NOT NULL,
    entry      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (function, number),
    UNIQUE (function, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
    function   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    pointed_at INTEGER NOT NULL,
    PRIMARY KEY (function, name),
    FOREIGN KEY (function, version) REFERENCES versions (function, number)
) STRICT, WITHOUT ROWID;

-- One row per move of an alias; neighbours of one alias never name the same version.
CREATE TABLE alias_history (
    seq        INTEGER PRIMARY KEY,
    function   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    pointed_at INTEGER NOT NULL,
    FOREIGN KEY (function, version) REFERENCES versions (function, number)
) STRICT;
CREATE INDEX alias_history_by_alias ON alias_history (function, name, seq);

CREATE TABLE env_overrides (
    function INTEGER NOT NULL REFERENCES functions (key),
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

-- Only the SHA-256 of a secret is kept.
CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    secret     TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

-- One row that readiness overwrites.
CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;
