"""`python -m worldsim`: the command line, where no script is on the path."""

import sys

from worldsim.cli import main

sys.exit(main())
