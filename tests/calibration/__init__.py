"""Worlds whose truth is known exactly, and how often a decision rule errs in them."""
