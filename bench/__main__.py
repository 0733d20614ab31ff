"""`python -m bench`: every measurement that this machine allows, one table each (`--format json` for machines)."""

import sys

from bench.birth import main

if __name__ == "__main__":
    sys.exit(main())
