"""Container health check: exit 0 if MuJoCo steps, a policy acts and results can be written.

If MUJOCO_GL is set, it also renders a frame.
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
    """Write a file and take three steps; return 0, or raise the first error."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=RESULTS):
        pass
    torch.set_num_threads(1)
    render = bool(os.environ.get("MUJOCO_GL"))
    mode = {"render_mode": "rgb_array"} if render else {}
    env = gymnasium.make("task_distributions:MetaRL/halfcheetah-vel-v1", task=0, **mode)
    obs, _ = env.reset(seed=0)
    (obs_dim,), (action_dim,) = env.observation_space.shape, env.action_space.shape
    policy, memory = PolicyModule("ssm", obs_dim=obs_dim, action_dim=action_dim), None
    for _ in range(3):
        inputs = torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)
        with torch.no_grad():
            action, _, _, memory = policy.get_action(inputs, memory, deterministic=True)
        obs, *_ = env.step(action[0].clamp(-1, 1).numpy())
    if render and not np.ptp(env.render()):
        raise RuntimeError("the rendered frame has a single colour")
    env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
