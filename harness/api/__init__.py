"""The harness as a library; ``harness`` itself exports these names, lazily."""

from harness.api.commands import compare, evaluate, score, train
from harness.api.environments import make, make_vec, register
from harness.api.runs import Run, load_run
from harness.execution.loaded_policy import LoadedPolicy, load_policy
from harness.zoo.weights import load_pretrained

__all__ = [
    "LoadedPolicy",
    "Run",
    "compare",
    "evaluate",
    "load_policy",
    "load_pretrained",
    "load_run",
    "make",
    "make_vec",
    "register",
    "score",
    "train",
]
