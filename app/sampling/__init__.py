"""Draw Cases: recent, uniform or stratified, anchored and weighted, from a seed."""
