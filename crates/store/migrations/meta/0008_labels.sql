-- Functions that came through the BunBase profile, and how their next deployment there is made.
CREATE TABLE registrations (
    function      INTEGER PRIMARY KEY REFERENCES functions (key),
    runtime       TEXT NOT NULL,
    handler       TEXT NOT NULL,
    registered_at INTEGER NOT NULL
) STRICT;

-- What that profile calls a version: a label, which means the same file for ever.
CREATE TABLE labels (
    function    INTEGER NOT NULL,
    label       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    source      TEXT NOT NULL,
    labelled_at INTEGER NOT NULL,
    PRIMARY KEY (function, label),
    FOREIGN KEY (function, version) REFERENCES versions (function, number)
) STRICT, WITHOUT ROWID;
