-- The secret of an access key, sealed: a signature is checked with the secret itself. `id` is then the access key's own.
ALTER TABLE tokens ADD COLUMN sealed BLOB;
