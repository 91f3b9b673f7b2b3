"""Entry point of ``python -m harness.compare``."""

import sys

from harness.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
