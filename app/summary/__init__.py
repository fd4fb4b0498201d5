"""Turn results into Summaries, Comparisons and the Run's document."""
