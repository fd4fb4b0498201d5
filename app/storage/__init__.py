"""Everything that is kept in Postgres."""
