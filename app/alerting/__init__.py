"""Decide what is news and compose the Alert."""
