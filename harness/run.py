"""Entry point of ``python -m harness.run``."""

import sys

from harness.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
