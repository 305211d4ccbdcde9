-- Events that were accepted and are not done. A row goes once its invocation has succeeded, or failed for the last time.
CREATE TABLE queue (
    id             BLOB PRIMARY KEY,
    function       INTEGER NOT NULL REFERENCES functions (key) ON DELETE CASCADE,
    event          BLOB NOT NULL,
    qualifier      TEXT,
    arn            TEXT,
    client_context TEXT,
    tenant_id      TEXT,
    trace_id       TEXT,
    accepted_at    INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    failed         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX queue_by_function ON queue (function);
