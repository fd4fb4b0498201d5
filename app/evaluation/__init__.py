"""Turn a Case and a Completion into Scores."""
