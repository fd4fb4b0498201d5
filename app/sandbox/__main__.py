"""Runs the sandbox as a process: `python -m app.sandbox --world demo --port 8081`."""

import sys

from app.sandbox.runner import main

if __name__ == "__main__":
    sys.exit(main())
