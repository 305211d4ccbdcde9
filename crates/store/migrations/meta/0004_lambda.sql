-- What AWS Lambda's API says of a function and its versions do not say themselves.
-- Layers of a version: digests of their zips, lowest first, as a JSON list.
ALTER TABLE versions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]';

-- States of a function: number 0 is `$LATEST`, the others are published and never change.
-- `content` tells states apart that are worth a number of their own; `layers` is a JSON list of ARNs and sizes.
CREATE TABLE lambda_states (
    function    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    content     TEXT NOT NULL,
    runtime     TEXT NOT NULL,
    handler     TEXT NOT NULL,
    role        TEXT NOT NULL,
    description TEXT NOT NULL,
    code        TEXT NOT NULL,
    code_size   INTEGER NOT NULL,
    storage     INTEGER NOT NULL,
    layers      TEXT NOT NULL,
    revision    TEXT NOT NULL,
    modified_at INTEGER NOT NULL,
    PRIMARY KEY (function, number),
    FOREIGN KEY (function, version) REFERENCES versions (function, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX lambda_states_by_version ON lambda_states (function, version);

-- What belongs to a function and to none of its states. `last_number` only grows: no number is given twice.
CREATE TABLE lambda_functions (
    function        INTEGER PRIMARY KEY REFERENCES functions (key),
    last_number     INTEGER NOT NULL DEFAULT 0,
    reserved        INTEGER,
    failed_code     TEXT,
    failed_reason   TEXT,
    url_auth        TEXT,
    url_mode        TEXT,
    url_created_at  INTEGER,
    url_modified_at INTEGER
) STRICT;

-- The numbers that an alias was given; 0 follows `$LATEST`. Where it leads stands in `aliases`.
CREATE TABLE lambda_aliases (
    function    INTEGER NOT NULL REFERENCES functions (key),
    name        TEXT NOT NULL,
    number      INTEGER NOT NULL,
    second      INTEGER,
    description TEXT NOT NULL,
    revision    TEXT NOT NULL,
    PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE lambda_tags (
    function INTEGER NOT NULL REFERENCES functions (key),
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

-- Runtimes and architectures are JSON lists. A deleted row stays, so that its number is not given again.
CREATE TABLE lambda_layers (
    name          TEXT NOT NULL,
    number        INTEGER NOT NULL,
    description   TEXT NOT NULL,
    license       TEXT NOT NULL,
    runtimes      TEXT NOT NULL,
    architectures TEXT NOT NULL,
    code          TEXT NOT NULL,
    code_size     INTEGER NOT NULL,
    unpacked_size INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    deleted       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
