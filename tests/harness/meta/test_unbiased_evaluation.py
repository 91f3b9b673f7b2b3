"""Our evaluator against a known truth, and metaworld's own against the same one."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics

import task_distributions
from harness.cli import run
from harness.reporting.store.records import read_records
from tests.harness.meta.lucky_classes import CLASSES, GOALS, LuckySingle

QUERY_EPISODES = 20
ROUNDS = 400
SIGMAS = 4
"""Half-width of the accepted interval, in standard deviations of a binomial share."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory, no_figures):
    """Every task scored by our evaluator, untrained: chance alone decides."""
    folder = tmp_path_factory.mktemp("lucky")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            task_distributions.REGISTRY, "lucky", "tests.harness.meta.lucky_classes:lucky"
        )
        patch.chdir(folder)
        sizes = ["--epochs", "0", "--policy", "mlp", "--backend", "local", "--name", "a"]
        sizes += ["--episodes-per-shot", "2", "--few-shot", "1", "--splits", "train", "test"]
        sizes += ["--query-episodes", str(QUERY_EPISODES)]
        assert run.main(["--task-dist", "lucky", *sizes]) == 0
    frame = read_records(folder / "results" / "a")
    return frame.assign(kind=frame["task"].str.partition("/")[0])


def _spread(probability, episodes):
    return SIGMAS * np.sqrt(probability * (1 - probability) / episodes)


def test_the_estimate_is_the_truth_within_a_binomial_bound(scored):
    for split, classes in ((split, CLASSES[split]) for split in ("train", "test")):
        for name, probability in classes.items():
            part = scored[(scored["split"] == split) & (scored["kind"] == name)]
            assert set(part["shots"]) == {0, 1}
            for key, episodes in part.groupby(["cell", "policy", "shots"]):
                assert len(episodes) == GOALS * QUERY_EPISODES, key
                share = episodes["success"].mean()
                assert abs(share - probability) <= _spread(probability, len(episodes)), key


class _Agent:
    def eval_action(self, observations):
        return np.zeros((len(observations), 2), np.float32)

    def reset(self, env_mask):
        pass


def test_metaworlds_own_function_inflates_the_same_truth(scored):
    """Truth 20 %: ours says 22 % of 1000 episodes (σ 1.3), metaworld's 33 % of 1200 (σ 1.2)."""
    evaluation = pytest.importorskip("metaworld.evaluation").evaluation
    truth = CLASSES["test"]["seldom"]
    # The official setting: a meta-batch of 20 over 5 classes is 4 environments a class, of which
    # the first 3 episodes to finish are counted.
    makers = [functools.partial(_counted, truth, seed) for seed in range(4)]
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    envs = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    theirs = np.mean([evaluation(_Agent(), envs, num_episodes=3)[0] for _ in range(ROUNDS)])
    part = scored[scored["kind"].eq("seldom") & scored["learner"].eq("maml")]
    ours = part.loc[part["shots"].eq(0), "success"].mean()
    assert abs(ours - truth) <= _spread(truth, GOALS * QUERY_EPISODES)
    assert theirs > truth + 2 * _spread(truth, ROUNDS * 3)
    assert (round(100 * ours), round(100 * theirs)) == (22, 33)


def _counted(probability, seed):
    return RecordEpisodeStatistics(LuckySingle("SawyerReachEnvV3", probability, seed))
