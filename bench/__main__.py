"""`python -m bench`: what a container's birth costs, beside C (birth.py)."""

import sys

from bench.birth import main

if __name__ == "__main__":
    sys.exit(main())
