"""Switchwise: can a cheaper model do the job of the primary, on the team's own traffic?"""

__version__ = "0.1.0"
