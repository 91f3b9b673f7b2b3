"""``python -m harness.check NAME``: whether a component keeps what the harness relies on."""

import sys

from harness.cli.check import main

if __name__ == "__main__":
    sys.exit(main())
