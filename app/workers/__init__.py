"""Workers: who does the work of Runs, in which process, and whether they still live."""
