"""`python -m molex_cli` is `molex`."""

import sys

from molex_cli.cli import main

sys.exit(main())
