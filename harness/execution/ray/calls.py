"""RAY: results of actor calls, with Ray's errors turned into ours."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from harness.execution.backend import LostError


class DeadActorError(LostError):
    """The actor died before it could reply; ``memory`` if Ray killed it to reclaim memory."""


def get(reference: Any, actor: str = "an actor") -> Any:
    """Return the value of ``reference``, or of each reference in a list.

    Raises:
        DeadActorError: the actor is dead.
        LostError: the value, or an argument of the call, was lost together with its node.
        Exception: whatever the call itself raised.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:  # first: it is a RayActorError too if that is its cause
        if isinstance(error.cause, RayError):
            raise _data_lost(error.cause) from error
        raise error.cause from error
    except (RayActorError, OutOfMemoryError) as error:
        memory = isinstance(error, OutOfMemoryError)
        raise DeadActorError(
            f"{actor} died: {_summary(error)}", learner=True, memory=memory
        ) from error
    except RayError as error:
        raise _data_lost(error) from error


def _data_lost(error: Exception) -> LostError:
    return LostError(f"data was lost: {_summary(error)}", learner=True)


def _summary(error: Exception) -> str:
    first, *rest = str(error).strip().splitlines()
    if rest and "creation task" in first:  # then the cause is in the last line alone
        return f"its constructor raised {rest[-1].strip()}"
    return first
