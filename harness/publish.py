"""Entry point of ``python -m harness.publish``."""

import sys

from harness.cli.publish import main

if __name__ == "__main__":
    sys.exit(main())
