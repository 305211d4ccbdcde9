CREATE TABLE functions (
    key     INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    UNIQUE (project, name)
) STRICT;

CREATE TABLE invocations (
    seq       INTEGER PRIMARY KEY,
    id        BLOB NOT NULL UNIQUE,
    function  INTEGER NOT NULL,
    version   INTEGER,
    "trigger" TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    message   TEXT,
    fault     TEXT,
    method    TEXT,
    path      TEXT,
    status    INTEGER,
    arrived   INTEGER NOT NULL,
    waited_us INTEGER NOT NULL,
    ran_us    INTEGER NOT NULL,
    cold      INTEGER NOT NULL,
    worker    TEXT
) STRICT;
CREATE INDEX invocations_by_arrival ON invocations (function, arrived, seq);
CREATE INDEX invocations_failed ON invocations (function, arrived, seq) WHERE outcome <> 'ok';

-- The sequence is a cursor for followers and never goes back, hence AUTOINCREMENT.
CREATE TABLE logs (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    function   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    invocation BLOB,
    level      INTEGER NOT NULL,
    text       TEXT NOT NULL
) STRICT;
CREATE INDEX logs_by_time ON logs (function, at, seq);
CREATE INDEX logs_by_invocation ON logs (invocation, seq) WHERE invocation IS NOT NULL;

-- Every ended invocation counts here, recorded or not.
CREATE TABLE counts (
    function INTEGER NOT NULL,
    hour     INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    lost     INTEGER NOT NULL,
    PRIMARY KEY (function, hour)
) STRICT, WITHOUT ROWID;
