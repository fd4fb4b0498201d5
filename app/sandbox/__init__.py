"""A local gateway, Slack and log table to try everything without a key."""
