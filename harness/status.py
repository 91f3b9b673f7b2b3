"""Entry point of ``python -m harness.status``."""

import sys

from harness.cli.status import main

if __name__ == "__main__":
    sys.exit(main())
