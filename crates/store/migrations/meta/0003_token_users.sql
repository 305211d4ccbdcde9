-- A token may stand for somebody: the `sub` by which rules of live development mean him.
ALTER TABLE tokens ADD COLUMN sub TEXT;
