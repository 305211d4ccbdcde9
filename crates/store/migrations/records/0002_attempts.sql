-- JSON; absent where only the deployed version was ever asked.
ALTER TABLE invocations ADD COLUMN attempts TEXT;
