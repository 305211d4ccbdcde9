-- Source as it was handed in by a client that brings no bundle, and the words that came with it.
-- Version 0 stands for a function that has been named and has no code yet.
CREATE TABLE sources (
    function  INTEGER NOT NULL REFERENCES functions (key),
    version   INTEGER NOT NULL,
    file_path TEXT NOT NULL,
    runtime   TEXT NOT NULL,
    code      TEXT,
    PRIMARY KEY (function, version)
) STRICT, WITHOUT ROWID;
