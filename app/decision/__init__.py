"""Turn Evidence and Policy into Verdicts and states over weeks."""
