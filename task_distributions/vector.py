"""The batched engine as a ``gymnasium.vector.VectorEnv``.

Array letters: B environments, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from task_distributions.base import BoolArray, FloatArray, Task, TaskDistribution
from task_distributions.task_env import BatchedTaskEnv, action_space, observation_space

__all__ = ["TaskVectorEnv"]

Infos = dict[str, Any]
StepResult = tuple[FloatArray, FloatArray, BoolArray, BoolArray, Infos]


class TaskVectorEnv(gymnasium.vector.VectorEnv):  # type: ignore[misc]  # gymnasium is untyped here
    """B environments on the batched engine, equal to as many single ones.

    Seeds, autoreset modes and infos are those of Gymnasium's ``SyncVectorEnv``. ``infos`` holds
    ``invalid`` and, if the distribution reports it, ``success``.

    Args:
        dist: the distribution; its engine must be a ``BatchedTaskEnv``.
        tasks: one task per environment.
        autoreset_mode: ``NextStep``, ``SameStep`` or ``Disabled``, or Gymnasium's enumeration.
        render_mode: a mode that returns images, where the environments can be rendered.

    Raises:
        ValueError: there is no such autoreset mode or render mode.
        TypeError: the engine is not a ``BatchedTaskEnv``.
    """

    def __init__(
        self,
        dist: TaskDistribution,
        tasks: Sequence[Task],
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self.closed = True  # until everything is there: Gymnasium's __del__ closes the rest
        engine = dist.make_batch(tasks, 1)
        if not isinstance(engine, BatchedTaskEnv):
            raise TypeError(
                f"the engine of {dist.name} is a {type(engine).__name__}; vector environments need "
                "a task_distributions.task_env.BatchedTaskEnv"
            )
        modes = [mode for mode in engine.metadata["render_modes"] if mode != "human"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(
                f"{dist.name} has no render mode {render_mode!r} for vector environments; choose "
                f"from: {', '.join(modes) or 'none'}"
            )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **engine.metadata,
            "render_modes": modes,
            "autoreset_mode": self.autoreset_mode,
        }
        self.render_mode, self.num_envs = render_mode, len(tasks)
        self.tasks = tuple(tasks)
        """The task of each environment."""
        self._dist, self._engine = dist, engine
        self.single_observation_space = observation_space(dist.spec)
        self.single_action_space = action_space(dist.spec)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._choices = np.eye(dist.spec.action_dim) if dist.spec.discrete else None
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int | None] = [None] * self.num_envs
        self._over: BoolArray | None = None
        """[B] the episode is over; None before the first reset."""
        self._all = np.ones(self.num_envs, np.bool_)
        self._viewers: list[Any] = []
        self.closed = False

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:
        """The random generator of each environment."""
        return tuple(self._generators(range(self.num_envs)))

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:
        """The seed of each environment's generator."""
        self._generators(range(self.num_envs))
        return tuple(self._seeds)

    def _generators(self, rows: Sequence[int]) -> list[np.random.Generator]:
        """Return the generators of ``rows``, seeded by the operating system if by nobody."""
        for b in rows:
            if self._rngs[b] is None:
                self._rngs[b], self._seeds[b] = seeding.np_random()
        return [rng for b in rows if (rng := self._rngs[b]) is not None]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[FloatArray, Infos]:
        """Start an episode in every environment, or in those of ``options["reset_mask"]``.

        Args:
            seed: seeds environment b with ``seed + b``, or with entry b; None continues the
                random numbers of each.
            options: ``reset_mask`` [B] marks the environments to start; others are ignored.

        Returns:
            The observations [B, O] of all environments, and the infos of those started.

        Raises:
            ValueError: the seeds or the mask do not fit.
            ResetNeeded: a mask leaves out environments that were never started.
        """
        mask = self._mask((options or {}).get("reset_mask"))
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + b for b in range(self.num_envs)]
        else:
            seeds = seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"got {len(seeds)} seeds for {self.num_envs} environments")
        rows = np.flatnonzero(mask)
        for b in rows.tolist():
            if seeds[b] is not None:
                self._rngs[b], self._seeds[b] = seeding.np_random(seeds[b])
        if self._over is None:
            self._over = np.zeros(self.num_envs, np.bool_)
        self._over[rows] = False
        obs = self._restart(rows)
        return obs.copy(), self._infos(mask)

    def _mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
        if not fits or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must be a numpy array of {self.num_envs} booleans, at "
                f"least one of them True, got {mask!r}"
            )
        if self._over is None and not mask.all():
            raise ResetNeeded("the first reset has to start all environments; leave out reset_mask")
        started: BoolArray = mask
        return started

    def _restart(self, rows: NDArray[np.int64]) -> FloatArray:
        return self._engine.restart(rows, self._generators(rows.tolist()))

    def step(self, actions: Any) -> StepResult:
        """Advance all environments by one control step with ``actions`` [B, A], or [B] discrete.

        Raises:
            ValueError: the actions have another shape, or there is no such discrete action.
            ResetNeeded: nothing was reset yet or, without autoreset, an episode is over.
        """
        over = self._over
        if over is None:
            raise ResetNeeded("call reset() before step()")
        mode, some_over = self.autoreset_mode, np.count_nonzero(over)  # faster than any()
        if some_over and mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"the episodes of environments {np.flatnonzero(over).tolist()} are over; start "
                "them with reset(options={'reset_mask': terminated | truncated})"
            )
        out = self._engine.step(self._rows(actions))
        if some_over and mode is AutoresetMode.NEXT_STEP:
            self._restart(np.flatnonzero(over))  # which clears their rewards and flags
        reward, terminated, truncated = (
            out.reward.copy(),
            out.terminated.copy(),
            out.truncated.copy(),
        )
        self._over = over = terminated | truncated
        final: Infos = {}
        if mode is AutoresetMode.SAME_STEP and np.count_nonzero(over):
            final = self._final(out.obs, over)
            self._restart(np.flatnonzero(over))
        infos = final | self._infos(self._all)
        return out.obs.copy(), reward, terminated, truncated, infos

    def _rows(self, actions: Any) -> NDArray[np.floating]:
        """Return actions as the engine takes them [B, A]."""
        values = np.asarray(actions)
        if self._choices is None:
            return values
        valid = values.shape == (self.num_envs,) and np.issubdtype(values.dtype, np.integer)
        if not valid or not ((values >= 0) & (values < len(self._choices))).all():
            raise ValueError(
                f"actions {actions!r} are not {self.num_envs} integers from 0 to "
                f"{len(self._choices) - 1}"
            )
        rows: FloatArray = self._choices[values]
        return rows

    def _infos(self, mask: BoolArray) -> Infos:
        """Return what the single environments of ``mask`` [B] report."""
        state = self._engine.state
        infos = {"invalid": state.invalid & mask, "_invalid": mask.copy()}
        if self._dist.spec.has_success:
            infos |= {"success": state.success & mask, "_success": mask.copy()}
        return infos

    def _final(self, obs: FloatArray, over: BoolArray) -> Infos:
        """Return the last observations and infos of the environments that are ``over`` [B]."""
        last = np.full(self.num_envs, None, dtype=object)
        for b in np.flatnonzero(over).tolist():
            last[b] = obs[b].copy()
        infos = {"final_obs": last, "_final_obs": over.copy()}
        return infos | {"final_info": self._infos(over), "_final_info": over.copy()}

    def render(self) -> tuple[Any, ...]:
        """Return an image of each environment.

        Raises:
            ValueError: no render mode was chosen.
            ResetNeeded: there is nothing to show before the first reset.
        """
        if self.render_mode is None:
            raise ValueError("choose a render mode: gymnasium.make_vec(..., render_mode=...)")
        if self._over is None:
            raise ResetNeeded("call reset() before render()")
        if not self._viewers:
            make: Any = self._dist.make_env
            self._viewers = [make(task, render_mode=self.render_mode) for task in self.tasks]
            for viewer in self._viewers:
                viewer.reset(seed=0)
                viewer.render()  # Gymnasium aims a free camera at the first picture
        for b, viewer in enumerate(self._viewers):
            self._engine.show(b, viewer)
        return tuple(viewer.render() for viewer in self._viewers)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the renderers."""
        for viewer in self._viewers:
            viewer.close()
        self._viewers = []
