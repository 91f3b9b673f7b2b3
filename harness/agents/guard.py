"""Calls to an agent: limited in time, with answers that are checked."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.agents.protocol import Adaptation, AgentError, TaskEpisodes, adaptation_of, has
from task_distributions import EnvSpec, Task
from task_distributions.base import BatchedEnv


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds that one call may take."""

    act: float = 60.0
    """``act``, ``observe`` and the other calls of every step or batch of episodes."""
    adapt: float = 300.0
    """``adapt``, and making the agent."""


class _LateError(BaseException):
    """Raised inside a call that takes too long; no agent catches it by ``except Exception``."""


@contextmanager
def watching() -> Iterator[None]:
    """Let calls in this block be interrupted, which works in a process's main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, _late)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # another timer was running
            remaining = max(left - (time.monotonic() - began), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, remaining, interval)


def _late(number: int, frame: FrameType | None) -> None:
    raise _LateError


def limited(method: str, seconds: float, call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns; interrupted only within ``watching``.

    Raises:
        AgentError: it raised an error or took longer than ``seconds``.
    """
    began = time.monotonic()
    armed = signal.getsignal(signal.SIGALRM) is _late
    armed = armed and threading.current_thread() is threading.main_thread()
    try:
        if armed:
            signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if it catches the error
        try:
            result = call()
        finally:
            if armed:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except _LateError:
        result = None
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise AgentError(
            f"{method} raised {type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        ) from error
    if time.monotonic() - began > seconds:
        raise AgentError(f"{method} took longer than {seconds:g} s")
    return result


class GuardedAgent:
    """An agent whose every call is limited in time and checked; absent methods do nothing."""

    def __init__(self, make: Callable[[], Any], limits: TimeLimits) -> None:
        self._limits = limits
        self._agent = limited("the factory", limits.adapt, make)
        self.adaptation: Adaptation = adaptation_of(self._agent)
        self.batched = bool(getattr(self._agent, "batched", True))
        self.observes, self.restores = (has(self._agent, name) for name in ("observe", "restore"))
        self.sees_task = has(self._agent, "show_task")
        if self.restores != has(self._agent, "snapshot"):
            raise AgentError("snapshot and restore belong together: it has one of the two")

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Begin the agent's only task."""
        self._call("begin_task", spec, num_episodes, seed)

    def begin_episodes(self, task: Task, env: BatchedEnv, *, query: bool) -> None:
        """Begin an episode in each environment of ``env``."""
        self._spec, count = env.spec, env.episodes_per_task
        self._over: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self._call("show_task", task, env)
        self._call("begin_episodes", count, query)

    def act(self, obs: NDArray[np.float64]) -> NDArray[Any]:
        """Return actions [B, A] at ``obs`` [B, O].

        Raises:
            AgentError: the agent returned no such actions.
        """
        given = self._call("act", obs if self.batched else obs[0])
        try:
            actions = np.asarray(given)
        except (ValueError, TypeError, RuntimeError) as error:  # ragged, or a tensor with gradients
            raise AgentError(f"act returned what is no array: {error}") from error
        if not self.batched:
            actions = actions[np.newaxis]
        shape = (len(obs), self._spec.action_dim)
        if self._spec.discrete and actions.shape == shape[:1]:
            actions = self._one_hot(actions)
        if actions.shape != shape or actions.dtype.kind not in "fiub":
            cut = slice(None) if self.batched else slice(1, None)
            raise AgentError(
                f"act returned {actions.dtype} of shape {actions.shape[cut]}, not numbers of "
                f"shape {shape[cut]}"
            )
        finite = np.isfinite(actions).all(axis=1) | self._over
        if not finite.all():
            raise AgentError(f"act returned {actions[~finite][0].tolist()}, which is not finite")
        return np.where(self._over[:, np.newaxis], 0, actions).astype(
            actions.dtype if actions.dtype.kind == "f" else np.float64
        )

    def _one_hot(self, choice: NDArray[Any]) -> NDArray[np.float64]:
        count = self._spec.action_dim
        known = (choice >= 0) & (choice < count)
        if choice.dtype.kind not in "iu" or not (known | self._over).all():
            raise AgentError(f"act returned {choice.tolist()}, not integers from 0 to {count - 1}")
        return np.asarray(np.eye(count)[np.where(known, choice, 0)])

    def observe(
        self,
        obs: NDArray[np.float64],
        actions: NDArray[Any],
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Pass on a transition of B rows."""
        self._over = terminated | truncated
        if self.observes:
            rows = (obs, actions, reward, terminated, truncated)
            self._call("observe", *(rows if self.batched else (row[0] for row in rows)))

    def adapt(self, episodes: TaskEpisodes) -> None:
        """Adapt on the support episodes of one shot."""
        if self.adaptation == "adapt":
            self._call("adapt", episodes, seconds=self._limits.adapt)

    def snapshot(self) -> Any:
        """Return the agent's state."""
        return self._call("snapshot")

    def restore(self, state: Any) -> None:
        """Return to a state from ``snapshot``."""
        self._call("restore", state)

    @property
    def declared(self) -> dict[str, int]:
        """What the agent says about itself: ``num_params`` and ``train_env_steps``; 0 if unknown.

        Raises:
            AgentError: one is no count.
        """
        counts = {}
        for name in ("num_params", "train_env_steps"):
            value = getattr(self._agent, name, 0)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or not 0 <= value < 2**63:
                raise AgentError(f"{name} is {value!r}, which is no count")
            counts[name] = int(value)
        return counts

    def _call(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        function = getattr(self._agent, method, None)
        if not callable(function):
            return None
        limit = self._limits.act if seconds is None else seconds
        return limited(method, limit, lambda: function(*arguments))
