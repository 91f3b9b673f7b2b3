"""Every registered learner keeps its contract, with each way it can be trained."""

import pytest

from harness.conformance import learner_suite
from harness.conformance.learners import accepted, iterate, make_setup
from harness.meta import learners

VARIANTS = ({}, {"baseline": "value"}, {"outer": "trpo", "policy": "lstm"}, {"history": False})

for name in learners.names():
    for number, variant in enumerate(VARIANTS):
        if accepted(name, variant).keys() == variant.keys() - {"policy"}:
            globals()[f"Test_{name}_{number}"] = learner_suite(name, **variant)


@pytest.mark.parametrize("name", learners.names())
def test_episodes_that_never_end_early_are_all_counted(name):
    setup = make_setup(name)
    learner = learners.build(setup)
    state = learner.init()
    done = iterate(setup, state, jobs=2)
    assert state.env_steps == learner.episodes_per_iteration * setup.dist.spec.horizon
    assert -100 < done.pre_return < 0
    assert -100 < done.post_return < 0
    assert done.info["grad_norm"] > 0
    assert done.info["skipped_in_a_row"] == 0
    assert state.snapshot().return_scale > 1


def test_the_oracle_is_fed_all_that_rl2_is_fed_and_the_task():
    rl2, oracle = make_setup("rl2").inputs, make_setup("oracle").inputs
    assert oracle.dim == rl2.dim + oracle.goals.dim
    alone = make_setup("oracle", history=False).inputs
    assert alone.dim == make_setup("multitask").inputs.dim + alone.goals.dim


def test_an_unknown_learner_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'reptile'.*maml"):
        learners.spec("reptile")


def test_only_what_adapts_while_training_has_another_return_afterwards():
    pre_post = {}
    for name in ("maml", "rl2", "rsac", "multitask", "finetune", "oracle"):
        setup = make_setup(name, policy="gru", **accepted(name, {"inner_lr": 1.0}))
        pre_post[name] = iterate(setup, learners.build(setup).init(), jobs=1)
    differs = {name for name, done in pre_post.items() if done.pre_return != done.post_return}
    assert differs == {"maml", "rl2", "rsac"}
