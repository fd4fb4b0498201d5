"""Shards as jobs on Postgres."""
