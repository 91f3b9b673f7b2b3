"""Entry point of ``python -m harness.tables``."""

import sys

from harness.cli.tables import main

if __name__ == "__main__":
    sys.exit(main())
