"""Trajectories as a Minari data set (https://minari.farama.org), with the tags as metadata."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np

import task_distributions
from harness.config.components import settings_as_dict
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig
from harness.config.validation import config_from_dict
from harness.errors import UsageError
from harness.export.trajectories import Export, Trajectory

SITE = "https://github.com/metarl-harness/metarl-harness"


def write_minari(export: Export, trajectories: Iterable[Trajectory], name: str) -> int:
    """Write the data set ``name``, whole or not at all; return the number of episodes.

    It is stored where Minari stores local data sets (``MINARI_DATASETS_PATH``).

    Raises:
        UsageError: Minari is not installed, the name is not one of Minari's or taken, or the cells
            have several task distributions.
    """
    try:
        import minari
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage.datasets_root_dir import get_dataset_path
    except ImportError as error:
        raise UsageError(f"--minari: {error}; pip install 'metarl-harness[minari]'") from error
    tables = dict.fromkeys(export.manifest.cells[key].table for key in export.cells)
    if len(tables) > 1:
        dists = ", ".join(tables)
        raise UsageError(
            f"--minari: a data set has one environment, the run has {dists}: choose --cells of one"
        )
    try:
        parse_dataset_id(name)
    except ValueError as error:
        raise UsageError(f"--minari: {error}") from error
    folder = get_dataset_path(name)
    if folder.exists():
        raise UsageError(f"--minari: {folder} exists already: choose another name")
    config = config_from_dict(export.manifest.cells[export.cells[0]].config)
    dist = open_distribution(config.task_dist, config.env)
    tags: list[dict[str, Any]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an author it would like to know
            made = minari.create_dataset_from_buffers(
                name,
                _buffers(trajectories, tags, discrete=dist.spec.discrete),
                env=_environment(config),
                observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (dist.spec.obs_dim,)),
                algorithm_name=", ".join(
                    sorted({export.manifest.cells[key].learner for key in export.cells})
                ),
                code_permalink=SITE,
                description=f"Scored episodes of {export.run.name}: {dist.protocol}",
                data_format="arrow",
            )
        made.storage.update_episode_metadata(tags)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(tags)


def _buffers(
    trajectories: Iterable[Trajectory], tags: list[dict[str, Any]], *, discrete: bool
) -> Iterator[Any]:
    """Yield the episodes as Minari takes them; their tags are added to ``tags``."""
    from minari.data_collector import EpisodeBuffer

    for trajectory in trajectories:
        last = np.arange(len(trajectory.rewards)) == len(trajectory.rewards) - 1
        actions, own = trajectory.actions, dict(trajectory.tags)
        seed = own.pop("reset_seed")  # Minari's word for it is seed
        tags.append(own | {"seed": seed, "cell_seed": own["seed"], "success": trajectory.success})
        yield EpisodeBuffer(
            seed=seed,
            observations=trajectory.observations,
            actions=actions[:, 0].astype(np.int64) if discrete else actions,
            rewards=trajectory.rewards,
            terminations=last & trajectory.terminated,
            truncations=last & (not trajectory.terminated),
        )


def _environment(config: RunConfig) -> gymnasium.Env:
    """Return the environment of the first task, which the data set can recover."""
    settings = {k: v for k, v in settings_as_dict(config.env).items() if v is not None}
    spec = task_distributions.env_spec(config.task_dist, **settings)
    return gymnasium.make(spec, split="test", task=0)
