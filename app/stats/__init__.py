"""Numbers in, Estimates and Evidence out: the arithmetic behind every verdict.

Needs numpy and scipy only and knows nothing of plans, models or storage.
"""
