-- A state that AWS Lambda's API made stays with its version, under the negative of the version's number: whichever
-- version `current` leads to, `$LATEST` is the state of that one.
UPDATE lambda_states SET number = -version WHERE number = 0;
