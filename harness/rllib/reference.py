"""RLLIB: RLlib's PPO and LSTM on the same tasks, scored by our evaluator into the same records.

RLlib (new API stack) samples and learns with its own environment runner, default LSTM module,
advantages, loss, minibatches and optimiser. Ours are the tasks and reset seeds, the policy's inputs
(``sequence_env``), the initial weights and all scoring: RLlib's network is our ``lstm`` under other
names (``weights``), so the trained policy is scored like any of ours.

Differences from our PPO besides the code:
- its heads see the memory alone; ours, the encoded observation beside it;
- the value loss is the squared error at half the coefficient; ours is the Huber loss;
- advantages are normalised with the extra last step of each sequence among them;
- the LSTM has two learned bias vectors where ours has one: its biases move twice as fast;
- sequences are cut into equal chunks of about ``bptt_steps``; minibatches are drawn from all of
  them, not job by job; sampling noise and shuffling come from torch's and numpy's own generators;
- the advantages of rl2 do not see where an inner episode ends: they extend past a fall;
- where episodes end early, RLlib takes the sequences that finish first until an iteration has its
  steps, and drops unfinished ones; an invalid episode is learned from up to the invalid step.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from harness.config.schema import RunConfig
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import Handle, LearnerStep, LostError, Work
from harness.execution.cell_setup import build_setup
from harness.execution.divergence import check_policy
from harness.execution.local import LocalBackend
from harness.execution.ray.backend import start
from harness.execution.worker import Receipt
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import PolicySnapshot, RequestKind
from harness.meta.learners.ppo import PPOLearner, PPOSettings
from harness.rllib.sequence_env import SequenceEnv, SequenceSource, assignments
from harness.rllib.weights import from_rllib, to_rllib
from harness.types import Cell
from policies.actor_critic import ActorCritic

MODULE = "default_policy"
SOURCES: dict[str, SequenceSource] = {}
"""Source of each cell's sequences in this process. RLlib copies its settings, so environments look
their source up here instead of receiving it."""
MAX_ENVS = 50
"""Most environments stepped together."""


class RllibBackend:
    """RLlib trains in this process and one local worker of ours scores. Satisfies ``Backend``."""

    num_workers = 1

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._local = LocalBackend(config)
        self._learner: RllibLearner | None = None
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _init_ray()

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Score; the records count the parameters that RLlib trained, second bias included."""
        receipts, results = self._local.run(work, on_done)
        if work.request.kind is RequestKind.EVALUATE:
            assert self._learner is not None
            count = self._learner.num_params
            results = [[replace(row, num_params=count) for row in part] for part in results]
        return receipts, results

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the handles: here they are the values."""
        return list(handles)

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> RllibLearner:
        """Start an RLlib algorithm for ``cell``; the previous one is stopped."""
        if checkpoint is not None:
            raise ValueError("RLlib's training cannot be resumed from a checkpoint")
        self._stop_learner()
        self._learner = RllibLearner(build_setup(cell, self._config))
        return self._learner

    def close(self) -> None:
        """Stop the algorithm, and Ray if it was started here."""
        self._stop_learner()
        if self._owns_ray:
            ray.shutdown()

    def _stop_learner(self) -> None:
        if self._learner is not None:
            self._learner.stop()
            self._learner = None


class RllibLearner:
    """One cell's RLlib algorithm. Satisfies ``LearnerHandle``."""

    def __init__(self, setup: CellSetup) -> None:
        learner = learners.build(setup)
        assert isinstance(learner, PPOLearner), setup.cell
        self._setup = setup
        self._state = learner.init()
        self.source = SequenceSource(setup, assignments(setup, learner), self._state.snapshot())
        SOURCES[setup.cell.id] = self.source
        config = algorithm_config(setup, learner)
        with warnings.catch_warnings():  # RLlib registers the environment again for each algorithm
            warnings.filterwarnings("ignore", ".*already in registry")
            self._algorithm: Algorithm = config.build_algo()
        self._set_weights(to_rllib(self._state.params))
        # RLlib raises the number of threads; two spinning on one busy core cost far more than one.
        torch.set_num_threads(1)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights of RLlib's learner under RLlib's names."""
        weights: dict[str, np.ndarray] = self._algorithm.get_weights()[MODULE]
        return weights

    def _set_weights(self, weights: dict[str, np.ndarray]) -> None:
        # A module's state also holds constants, which are kept. Algorithm.set_weights would do
        # both steps, but raises in RLlib 2.60.
        state = self.weights() | weights
        self._algorithm.learner_group.set_weights({MODULE: state})
        self._algorithm.get_module(MODULE).set_state(state)

    @property
    def num_params(self) -> int:
        """Number of parameters that RLlib trains."""
        return sum(value.size for value in to_rllib(self._state.params).values())

    def advance(self, *results: Handle) -> LearnerStep:
        """Run one iteration of RLlib, which samples and learns without our workers.

        Raises:
            LostError: RLlib sampled no whole sequence; it would continue with NaN metrics.
            DivergedError: the iteration arrived at a policy that is not finite.
        """
        assert not results
        began, before = time.perf_counter(), self.source.env_steps
        metrics = self._algorithm.train()
        reports = self.source.pop_reports()
        if self.source.env_steps == before or not reports:
            raise LostError(f"RLlib sampled no sequence in iteration {self._state.iteration + 1}")
        self._state.params = params = from_rllib(self.weights())
        info = _losses(metrics) | {"std": float(params["log_std"].exp().mean())}
        done = self._state.finish_iteration(reports, info)
        self._state.env_steps = self.source.env_steps
        self.source.state = self._state.snapshot()
        check_policy(self.source.state, self._state.iteration)
        spent = time.perf_counter() - began
        return LearnerStep(None, done, self._state.env_steps, spent)

    def snapshot(self) -> PolicySnapshot:
        """Return RLlib's policy under our names, with the normaliser it was trained with."""
        self._state.params = from_rllib(self.weights())
        return self._state.snapshot()

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """Write the trained policy under our names, without RLlib's optimiser."""
        checkpoints.save(path, self._state, run)

    def stop(self) -> None:
        """Stop the algorithm and remove the folder it created in the home directory."""
        folder = Path(self._algorithm.logdir)
        self._algorithm.stop()
        del SOURCES[self._setup.cell.id]
        shutil.rmtree(folder, ignore_errors=True)


class RllibSequenceEnv(SequenceEnv):
    """``SequenceEnv`` as RLlib constructs it: from a class and a context that it pickles."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__(SOURCES[context["cell"]])


class _StdPerAction(torch.nn.Module):
    """Applies a head with its own log std along a time axis, which RLlib 2.60 cannot."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return mean and log std ``[..., 2A]`` of ``features [..., H]``."""
        out: torch.Tensor = self.head(features.flatten(0, -2))
        return out.reshape(*features.shape[:-1], out.shape[-1])


class RecurrentModule(DefaultPPOTorchRLModule):  # type: ignore[misc]  # ray is untyped here
    """RLlib's default PPO module with a state-independent std that works with its LSTM."""

    def setup(self) -> None:
        """Build the networks."""
        super().setup()
        self.pi = _StdPerAction(self.pi)  # type: ignore[has-type]


def algorithm_config(setup: CellSetup, learner: PPOLearner) -> PPOConfig:
    """Return the RLlib settings that come closest to those of our PPO."""
    ppo: PPOSettings = setup.settings
    count = learner.tasks_per_iteration * learner.envs_per_task
    length = ppo.episodes_in_context * setup.dist.spec.horizon
    steps, longest = count * length, ppo.resolved_bptt_steps(setup.policy.name)
    chunk = chunk_steps(length, length if longest == "whole" else longest)
    minibatch = max(chunk, math.ceil(count * (length + 1) / ppo.minibatches))
    return (
        PPOConfig()
        .framework("torch")
        .environment(
            RllibSequenceEnv,
            env_config={"cell": setup.cell.id},
            normalize_actions=False,
            clip_actions=False,
            disable_env_checking=True,
        )
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=max(n for n in range(1, MAX_ENVS + 1) if count % n == 0),
            batch_mode="complete_episodes",
        )
        .learners(num_learners=0)
        .training(
            train_batch_size_per_learner=steps,
            minibatch_size=min(minibatch, steps),
            num_epochs=ppo.update_epochs,
            shuffle_batch_per_epoch=True,
            lr=[[0, ppo.learning_rate], [max(setup.budget.iterations(steps), 1) * steps, 0.0]],
            gamma=ppo.gamma,
            lambda_=ppo.gae_lambda,
            clip_param=ppo.clip,
            grad_clip=ppo.max_grad_norm,
            grad_clip_by="global_norm",
            entropy_coeff=ppo.entropy_coef,
            # Ours is a Huber loss, which starts as half the square.
            vf_loss_coeff=0.5 * ppo.value_coef,
            vf_clip_param=float("inf"),
            use_kl_loss=False,
        )
        .rl_module(rl_module_spec=_module_spec(setup, chunk))
        .debugging(seed=setup.cell.seed, log_level="ERROR")
    )


def _module_spec(setup: CellSetup, chunk: int) -> RLModuleSpec:
    assert isinstance(setup.policy, ActorCritic)
    model = DefaultModelConfig(
        fcnet_hiddens=[setup.policy.core.settings.encoder_dim],
        fcnet_activation="tanh",
        use_lstm=True,
        lstm_cell_size=setup.policy.core.settings.hidden_dim,
        max_seq_len=chunk,
        vf_share_layers=True,
        free_log_std=True,
    )
    return RLModuleSpec(module_class=RecurrentModule, model_config=model)


def chunk_steps(length: int, longest: int) -> int:
    """Return the size of the fewest equal chunks, none longer than ``longest``, for a sequence.

    RLlib appends one step to every sequence of ``length`` steps to bootstrap its value; that step
    must not become a chunk of its own.
    """
    return math.ceil((length + 1) / math.ceil(length / longest))


def _losses(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the losses that RLlib's learner reports for its last minibatch."""
    losses = metrics["learners"][MODULE]
    names = {"policy_loss": "surrogate", "vf_loss": "value_loss", "entropy": "entropy"}
    return {ours: float(losses[theirs]) for theirs, ours in names.items()}


def _init_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    # RLlib runs in this process: Ray has no work to distribute.
    start(num_cpus=1, log_to_driver=False, logging_level="ERROR")
