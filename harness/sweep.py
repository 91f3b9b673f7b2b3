"""Entry point of ``python -m harness.sweep``."""

import sys

from harness.cli.sweep import main

if __name__ == "__main__":
    sys.exit(main())
