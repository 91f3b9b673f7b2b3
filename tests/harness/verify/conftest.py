import shutil

import pytest

from harness import score, train
from harness.experiments.publishing import publish
from tests.harness.verify.verify_cases import PROTOCOL

PLUGIN = """
import pathlib
import numpy as np

pathlib.Path(__file__).with_name("imported").touch()

class Mine:
    num_params, train_env_steps = 3, 5_000

    def __init__(self):
        self.shots = 0

    def act(self, obs):
        return np.full((len(obs), 2), 0.1 * self.shots)

    def adapt(self, episodes):
        self.shots += 1
"""


@pytest.fixture(autouse=True, scope="package")
def _plain_report():
    """No figures, and no page, which takes longest to render."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.reporting.rebuild.write_figures", lambda *_: None)
        patch.setattr("harness.reporting.rebuild.to_html", lambda *_, **__: "a page of maml")
        yield


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """A published run of two learners and two seeds."""
    place = tmp_path_factory.mktemp("trained")
    learner = {
        "maml": {"meta_batch_size": 2, "episodes_per_task": 2},
        "rl2": {"episodes_per_iteration": 4, "tasks_per_iteration": 2, "minibatches": 1},
    }
    run = train(
        "point_goal",
        policy={"gru": {"hidden_dim": 4, "encoder_dim": 4}},
        learner=learner,
        seed=[0, 1],
        meta_iterations=1,
        storage=place,
        name="run",
        **PROTOCOL,
    )
    return publish(run.path, "published", place).path


@pytest.fixture(scope="package")
def scored(tmp_path_factory):
    """A published run of an agent that was defined in a file, which is gone."""
    place = tmp_path_factory.mktemp("scored")
    (place / "mine.py").write_text(PLUGIN)
    run = score(f"{place}/mine.py:Mine", "point_goal", storage=place, name="run", **PROTOCOL)
    published = publish(run.path, "published", place).path
    (place / "mine.py").unlink()
    (place / "imported").unlink()
    return published


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the trained run, to be edited."""
    return shutil.copytree(trained, tmp_path / "published")
