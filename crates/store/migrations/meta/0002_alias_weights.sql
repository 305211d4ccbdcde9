-- An alias may point at a second version, which gets `percent` of a hundred invocations.
ALTER TABLE aliases ADD COLUMN second INTEGER;
ALTER TABLE aliases ADD COLUMN percent INTEGER;
ALTER TABLE alias_history ADD COLUMN second INTEGER;
ALTER TABLE alias_history ADD COLUMN percent INTEGER;
