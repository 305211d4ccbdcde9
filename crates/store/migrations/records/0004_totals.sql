-- How many invocations ended, ever: what is pruned elsewhere still counts here.
CREATE TABLE totals (
    function INTEGER PRIMARY KEY,
    ended    INTEGER NOT NULL
) STRICT;
INSERT INTO totals (function, ended) SELECT function, sum(ended) FROM counts GROUP BY function;
