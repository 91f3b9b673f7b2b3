"""Exit 0 if this container can work: MuJoCo steps a task, a policy answers, results can be kept.

Where MUJOCO_GL says what to draw with, it draws a frame too.
"""

import os
import sys
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
import torch

from policies.modules import PolicyModule

RESULTS = Path("results")


def main() -> int:
    """Keep a file, play three steps; return 0, or raise what is wrong."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=RESULTS):
        pass
    torch.set_num_threads(1)
    draws = bool(os.environ.get("MUJOCO_GL"))
    mode = {"render_mode": "rgb_array"} if draws else {}
    env = gymnasium.make("task_distributions:MetaRL/halfcheetah-vel-v1", task=0, **mode)
    obs, _ = env.reset(seed=0)
    (obs_dim,), (action_dim,) = env.observation_space.shape, env.action_space.shape
    policy, memory = PolicyModule("ssm", obs_dim=obs_dim, action_dim=action_dim), None
    for _ in range(3):
        seen = torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)
        with torch.no_grad():
            action, _, _, memory = policy.get_action(seen, memory, deterministic=True)
        obs, *_ = env.step(action[0].clamp(-1, 1).numpy())
    if draws and not np.ptp(env.render()):
        raise RuntimeError("the frame is all of one colour: nothing was drawn")
    env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
