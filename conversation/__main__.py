"""`python -m conversation`: the command line."""

import sys

from conversation._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
