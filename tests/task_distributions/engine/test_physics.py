"""Batched physics against a plain loop over MuJoCo's Python bindings.

Comparisons are exact: both sides call the same ``mj_step`` of the same library.
"""

from __future__ import annotations

import copy
import gc

import mujoco
import numpy as np
import pytest

from task_distributions.engine.physics import DataPool, Physics
from task_distributions.locomotion.robots import ANT, HALFCHEETAH, WALKER2D, template

CART = """
<mujoco><option timestep="0.1" gravity="0 0 0"/>
  <worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="1" mass="1"/></body>
  </worldbody>
  <actuator><motor joint="x" gear="10"/></actuator>
</mujoco>"""


@pytest.mark.parametrize("robot", [HALFCHEETAH, ANT, WALKER2D], ids=lambda robot: robot.name)
def test_trajectories_are_those_of_mj_step(robot):
    start = template(robot)
    light = copy.copy(start.model)
    light.body_mass[:] *= 0.5
    models = [start.model, light, start.model]
    physics = Physics(
        models, start.pool, frame_skip=start.frame_skip, tracked_body=robot.tracked_body
    )
    qpos, qvel = robot.reset_state([np.random.default_rng(seed) for seed in (1, 2, 3)])
    physics.reset(qpos, qvel)
    datas = [mujoco.MjData(model) for model in models]
    for model, data, q, v in zip(models, datas, qpos, qvel, strict=True):
        data.qpos[:], data.qvel[:] = q, v
        mujoco.mj_forward(model, data)
    rng = np.random.default_rng(0)
    for t in range(60):
        active = np.array([True, True, t < 30])
        controls = rng.uniform(-1, 1, (3, robot.action_dim))
        physics.step(controls, active)
        for b in np.flatnonzero(active):
            datas[b].ctrl[:] = controls[b]
            mujoco.mj_step(models[b], datas[b], nstep=start.frame_skip)
        for b, data in enumerate(datas):
            np.testing.assert_array_equal(physics.qpos[b], data.qpos)
            np.testing.assert_array_equal(physics.qvel[b], data.qvel)
            body = robot.tracked_body
            point = data.qpos[:1] if body is None else data.xpos[body][:2]
            np.testing.assert_array_equal(physics.tracked[b], point)
    assert not physics.unstable.any()


def _push(control: float, position: float = 0.0, velocity: float = 0.0) -> Physics:
    """Two carts of 1 kg after a tenth of a second; the arguments are those of the second."""
    model = mujoco.MjModel.from_xml_string(CART)
    physics = Physics([model, model], DataPool(model), frame_skip=1)
    physics.reset(np.array([[0.0], [position]]), np.array([[0.0], [velocity]]))
    physics.step(np.array([[1.0], [control]]), np.ones(2, bool))
    return physics


@pytest.mark.parametrize(
    ("control", "position", "velocity"),
    [
        (np.nan, 0, 0),
        (2e10, 0, 0),
        (5e9, 0, 0),  # accelerates with 5e10 m/s2
        (0, 2e10, 0),
        (0, 0, 2e10),
        (0, 9.9e9, 9e9),  # within MuJoCo's bounds now, beyond them after this step
        (5e8, -5e9, 9.9e9),
    ],
)
def test_every_kind_of_explosion_is_seen(control: float, position: float, velocity: float):
    physics = _push(control, position, velocity)
    assert physics.unstable.tolist() == [False, True]
    assert physics.qpos[1] == position  # the previous state, not MuJoCo's reset state
    assert physics.qvel[1] == velocity
    assert physics.qvel[0] == pytest.approx(1.0)


def test_fast_is_not_unstable():
    assert not _push(1e8, 5e9, 5e9).unstable.any()


def test_harmless_warnings_do_not_count():
    """MuJoCo counts full contact buffers in the same table; they do not reset the state."""
    start = template(HALFCHEETAH)
    physics = Physics([start.model], start.pool, frame_skip=5)
    physics.reset(*HALFCHEETAH.reset_state([np.random.default_rng(0)]))
    for index in range(int(mujoco.mjtWarning.mjWARN_BADQPOS)):
        physics.datas[0].warning[index].number = 1
    physics.step(np.zeros((1, 6)), np.ones(1, bool))
    assert not physics.unstable.any()


def test_a_user_handler_still_receives_warnings():
    messages: list[str] = []
    mujoco.set_mju_user_warning(messages.append)
    try:
        _push(np.nan)
    finally:
        mujoco.set_mju_user_warning(None)
    assert len(messages) == 1


def test_simulations_are_not_shared_and_return_to_the_pool():
    pool = DataPool(template(HALFCHEETAH).model)
    models = [template(HALFCHEETAH).model] * 2
    first, second = (Physics(models, pool, frame_skip=5) for _ in range(2))
    addresses = {data._address for data in first.datas + second.datas}
    assert len(addresses) == 4
    del first, second
    gc.collect()
    assert {data._address for data in pool.acquire(4)} == addresses
