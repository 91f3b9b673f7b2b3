"""Entry point of ``python -m harness.rllib``."""

import sys

from harness.rllib.command import main

if __name__ == "__main__":
    sys.exit(main())
