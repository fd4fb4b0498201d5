"""Make one paid call: reserve, journal, send, settle."""
