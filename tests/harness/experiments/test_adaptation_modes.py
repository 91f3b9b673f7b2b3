"""Standard against hybrid from identical weights and tasks; every flag of replay changes it."""

import pytest

from tests.harness.execution.execution_cases import played_locally, records

FLAGS = {
    "--buffer-size": "3",
    "--experience-batch-size": "3",
    "--experience-weight": "0.9",
}


@pytest.fixture
def scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def played(name, *argv):
        assert played_locally(name, *argv, epochs=1, few_shot=(1, 3)) == 0
        frame = records(name)
        frame = frame[frame.learner != "reference"]
        return {k: frame[frame.shots == k].return_.tolist() for k in (0, 1, 3)}

    return played


def test_hybrid_differs_from_the_second_shot_on_and_every_flag_acts(scores):
    standard = scores("standard", "--adaptation-mode", "standard")
    hybrid = scores("hybrid", "--adaptation_mode", "hybrid")
    assert (standard[0], standard[1]) == (hybrid[0], hybrid[1])  # no past to replay yet
    assert standard[3] != hybrid[3]
    for flag, value in FLAGS.items():
        other = scores(f"hybrid{flag}", "--adaptation-mode", "hybrid", flag, value)
        assert other[0] == hybrid[0]
        assert other[3] != hybrid[3], flag
