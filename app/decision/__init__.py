"""Turn Evidence and Policy into Verdicts and states over weeks."""

from app.decision.decider import ArrayDecision, Decider

__all__ = ["ArrayDecision", "Decider"]
