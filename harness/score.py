"""Entry point of ``python -m harness.score``."""

import sys

from harness.cli.score import main

if __name__ == "__main__":
    sys.exit(main())
