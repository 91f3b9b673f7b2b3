"""Rules of an episode, shared by the single and the batched environments.

- `terminated`: the MDP ended.
- `truncated`: the episode is over although the MDP did not end: the horizon was reached, or the
  episode is `invalid`.
- `invalid`: the action was not finite or the physics exploded. Such a step repeats the previous
  observation, has reward 0, and leaves `success` and `terminated` as they were, so everything
  returned is always finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from task_distributions.base import (
    BoolArray,
    EnvSpec,
    FloatArray,
    IndexArray,
    StepBatch,
    Task,
)

__all__ = ["BatchedTaskEnv", "LoopedEnvs", "TaskEnv", "action_space", "observation_space"]


def observation_space(spec: EnvSpec) -> gymnasium.spaces.Box:
    """Return the space of one environment's observations."""
    return gymnasium.spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float64)


def action_space(spec: EnvSpec) -> gymnasium.spaces.Box | gymnasium.spaces.Discrete:
    """Return the space of one environment's actions."""
    if spec.discrete:
        return gymnasium.spaces.Discrete(spec.action_dim)
    return gymnasium.spaces.Box(-1.0, 1.0, (spec.action_dim,), np.float32)


class BatchedTaskEnv(ABC):
    """B = N·E environments in lockstep; finished ones stand still. Subclasses supply the MDP."""

    metadata: Mapping[str, Any] = {"render_modes": []}
    """Gymnasium's metadata of the single environments."""
    action_limit: float = 1.0
    """Continuous actions are clipped to this magnitude."""

    def __init__(self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int) -> None:
        if episodes_per_task < 1:
            raise ValueError(f"episodes_per_task must be at least 1, got {episodes_per_task}")
        self.spec = spec
        self.tasks = tuple(tasks)
        self.episodes_per_task = episodes_per_task
        count = len(tasks) * episodes_per_task
        self._controls: FloatArray = np.zeros((count, spec.action_dim))
        self._obs: FloatArray = np.zeros((count, spec.obs_dim))
        self._reward: FloatArray = np.zeros(count)
        self._active, self._terminated, self._truncated, self._success, self._invalid = (
            np.zeros(count, np.bool_) for _ in range(5)
        )
        self._steps_taken: IndexArray = np.zeros(count, np.int64)
        self._started = False
        self.state = StepBatch(
            obs=self._obs,
            reward=self._reward,
            terminated=self._terminated,
            truncated=self._truncated,
            success=self._success,
            invalid=self._invalid,
        )
        """Result of the last step or reset; the arrays belong to this object."""

    def reset(self, seeds: Sequence[int]) -> FloatArray:
        """Start one episode per environment, seeded with ``seeds`` [B]; return obs [B, O].

        Raises:
            ValueError: the number of seeds is not B.
        """
        if len(seeds) != len(self._active):
            raise ValueError(
                f"got {len(seeds)} seeds for {len(self._active)} environments "
                f"({len(self.tasks)} tasks x {self.episodes_per_task} episodes); pass one for each"
            )
        rngs = [gymnasium.utils.seeding.np_random(seed)[0] for seed in seeds]
        return self.restart(np.arange(len(rngs)), rngs)

    def restart(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        """Start an episode in the environments ``rows`` [R]; the others stay as they are.

        Args:
            rows: indices of the environments.
            rngs: R generators that draw their initial states.

        Returns:
            The current observations of all environments [B, O].
        """
        self._obs[rows] = self._start(rows, rngs)
        self._reward[rows] = 0.0
        self._active[rows] = True
        for flags in (self._terminated, self._truncated, self._success, self._invalid):
            flags[rows] = False
        self._steps_taken[rows] = 0
        self._started = True
        return self._obs

    def step(self, actions: NDArray[np.floating]) -> StepBatch:
        """Advance every unfinished episode by one control step with ``actions`` [B, A].

        The returned arrays belong to this object and are valid until the next call.

        Raises:
            ValueError: the actions have another shape.
            RuntimeError: ``reset`` has not been called.
        """
        if actions.shape != self._controls.shape:
            raise ValueError(f"actions are {actions.shape}, expected {self._controls.shape}")
        if not self._started:
            raise RuntimeError("step() before the first reset(seeds)")
        self._steps_taken += 1
        valid = self._set_controls(actions) & self._active
        ended = self._advance(self._controls, valid, self._obs, self._reward)
        self._reward[~valid] = 0.0
        self._invalid |= self._active & ~valid
        self._terminated |= ended & valid
        at_horizon = self._steps_taken >= self.spec.horizon
        self._truncated |= self._active & (self._invalid | (at_horizon & ~self._terminated))
        self._active &= ~(self._terminated | self._truncated)
        return self.state

    def show(self, b: int, env: Any) -> None:
        """Bring ``env``, a single environment of the same task, into the state of environment b.

        Only what can be seen is brought over: ``env`` is to be rendered, not stepped.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be rendered")

    def _set_controls(self, actions: NDArray[np.floating]) -> BoolArray:
        """Write ``actions``, clipped or one-hot, into the controls; return [B] where finite."""
        finite: BoolArray = np.isfinite(actions).all(axis=1)
        if self.spec.discrete:
            self._controls[:] = _one_hot(actions.argmax(axis=1), self.spec.action_dim)
        else:
            limit = self.action_limit
            np.clip(actions, -limit, limit, out=self._controls, casting="unsafe")
        self._controls[~finite] = 0.0
        return finite

    @abstractmethod
    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        """Start an episode in each of ``rows`` [R], drawn with ``rngs``; return obs [R, O]."""

    @abstractmethod
    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        """Step the environments where ``valid`` [B]; return where the MDP ended [B].

        Implementations clear ``valid`` where the physics exploded, write ``obs`` [B, O] only where
        it is still set, and may write any entry of ``reward`` [B].
        """


class TaskEnv(gymnasium.Env, ABC):  # type: ignore[misc]  # gymnasium is untyped here
    """One task as an ordinary Gymnasium environment. Subclasses supply the MDP.

    Environments of ``gymnasium.make`` can be pickled and copied, with the state of their episode.
    """

    action_limit: float = 1.0
    """Continuous actions are clipped to this magnitude."""
    _KEPT: ClassVar[tuple[str, ...]] = (
        *("_np_random", "_np_random_seed", "_obs", "_steps_left", "_success"),
    )

    def __init__(self, spec: EnvSpec, task: Task) -> None:
        self.task = task
        self._horizon, self._reports_success = spec.horizon, spec.has_success
        self._num_actions = spec.action_dim if spec.discrete else None
        self._success = False
        """Subclasses set it when the goal is reached; every reset clears it."""
        self.observation_space: gymnasium.Space = observation_space(spec)
        self.action_space: gymnasium.Space = action_space(spec)
        self._obs: FloatArray = np.zeros(spec.obs_dim)
        self._steps_left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode, the batched engine's for the same ``seed``."""
        super().reset(seed=seed)
        self._steps_left = self._horizon
        self._success = False
        self._obs = self._start()
        return self._obs.copy(), self._info(invalid=False)

    def step(
        self, action: NDArray[np.floating] | int
    ) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step; ``info`` holds ``invalid`` and, if reported, ``success``.

        Raises:
            RuntimeError: the episode is over, or none was started.
            ValueError: there is no such discrete action, or the action has another shape.
        """
        if self._steps_left == 0:
            raise RuntimeError("this episode is over; call reset() first")
        controls = self._controls(action)
        self._steps_left -= 1
        outcome = self._advance(controls) if np.isfinite(controls).all() else None
        if outcome is None:
            reward, terminated, truncated = 0.0, False, True
        else:
            self._obs, reward, terminated = outcome
            truncated = self._steps_left == 0 and not terminated
        if terminated or truncated:
            self._steps_left = 0
        info = self._info(invalid=outcome is None)
        return self._obs.copy(), reward, terminated, truncated, info

    def _controls(self, action: NDArray[np.floating] | int) -> FloatArray:
        """Return ``action`` clipped, or as a one-hot row if it is discrete."""
        if self._num_actions is None:
            values = np.asarray(action, np.float64)
            if values.shape != self.action_space.shape:
                raise ValueError(f"action is {values.shape}, expected {self.action_space.shape}")
            limit = self.action_limit
            return np.where(np.isfinite(values), np.clip(values, -limit, limit), np.nan)
        if not self.action_space.contains(action) or np.asarray(action).dtype == np.bool_:
            raise ValueError(
                f"action {action!r} is not one of the integers 0 to {self._num_actions - 1}"
            )
        return _one_hot(np.asarray(action), self._num_actions)

    def _info(self, *, invalid: bool) -> dict[str, Any]:
        return {"invalid": invalid} | ({"success": self._success} if self._reports_success else {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.spec is None:  # nothing says how to build it again
            return super().__reduce_ex__(protocol)
        kept = {name: getattr(self, name) for name in self._KEPT}
        spaces = (self.observation_space, self.action_space)
        return _rebuild, (self.spec, kept, spaces, self._simulation_state())

    def _simulation_state(self) -> Any:
        """Return a picklable copy of the simulation; None if the observation is the whole state."""
        return None

    def _restore_simulation(self, state: Any) -> None:
        """Continue from a result of ``_simulation_state`` of an environment of the same task."""

    @abstractmethod
    def _start(self) -> FloatArray:
        """Start an episode with ``self.np_random``; return its first observation [O]."""

    @abstractmethod
    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool] | None:
        """Return observation, reward, terminated; None if the physics exploded."""


class LoopedEnvs(BatchedTaskEnv):
    """A batch of single environments, stepped one after the other: for dynamics without a batch."""

    def __init__(self, spec: EnvSpec, envs: Sequence[TaskEnv], episodes_per_task: int) -> None:
        """Take N·E environments, E of each task in a row."""
        super().__init__(spec, [env.task for env in envs[::episodes_per_task]], episodes_per_task)
        self._envs = envs

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()

    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        for b, rng in zip(rows.tolist(), rngs, strict=True):
            env = self._envs[b]
            env.np_random, env._success = rng, False
            env._obs = env._start()
        return np.array([self._envs[b]._obs for b in rows.tolist()])

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        ended: BoolArray = np.zeros(len(valid), np.bool_)
        for b in np.flatnonzero(valid).tolist():
            env = self._envs[b]
            outcome = env._advance(controls[b])
            if outcome is None:
                valid[b] = False
            else:
                env._obs, reward[b], ended[b] = outcome
                obs[b], self._success[b] = env._obs, env._success
        return ended


def _rebuild(
    spec: Any, kept: Mapping[str, Any], spaces: tuple[Any, Any], simulation: Any
) -> TaskEnv:
    """Return the environment that ``TaskEnv`` was pickled from."""
    env: TaskEnv = gymnasium.make(spec).unwrapped
    for name, value in kept.items():
        setattr(env, name, value)
    env.observation_space, env.action_space = spaces
    if simulation is not None:
        env._restore_simulation(simulation)
    return env


def _one_hot(choice: NDArray[np.integer], count: int) -> FloatArray:
    """Return one-hot rows [..., count] for the indices ``choice`` [...]."""
    rows: FloatArray = np.eye(count)[choice]
    return rows
