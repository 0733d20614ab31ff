"""`python -m minirt`."""

import sys

from minirt.cli.main import main

sys.exit(main())
