"""metarl-harness: a Ray-distributed benchmark harness for meta-reinforcement learning."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("metarl-harness")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
