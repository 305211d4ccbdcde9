-- What was asked and answered, as JSON, secrets taken out. Goes with its invocation, or before it.
CREATE TABLE recordings (
    seq        INTEGER PRIMARY KEY,
    invocation BLOB NOT NULL UNIQUE,
    bytes      INTEGER NOT NULL,
    content    BLOB NOT NULL
) STRICT;
CREATE INDEX recordings_by_size ON recordings (seq, bytes);

CREATE TRIGGER recordings_go_with_invocations AFTER DELETE ON invocations BEGIN
    DELETE FROM recordings WHERE invocation = old.id;
END;
