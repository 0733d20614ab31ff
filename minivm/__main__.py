"""`python -m minivm` is `minivm`."""

from minivm.cli.main import main

raise SystemExit(main())
