"""Adaptation strategies, meta-features and hooks."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy, mse_loss

from harness.toolkit import (
    AdaptationConfig,
    AdaptationStrategy,
    MetaRLHook,
    SSMHook,
    create_adapter,
    register_adaptation_strategy,
    strategy_names,
)
from policies.ssm import ImprovedSSM, StateSpaceModel


class Classifier(nn.Module):
    """Takes its batch as keyword arguments and returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x, labels=None):
        features = torch.tanh(self.body(x))
        return {"logits": self.head(features), "features": features}


def make_batch(shift: float = 0.0, seed: int = 3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 4, generator=generator) + shift
    return {"x": x, "labels": torch.randint(3, (64,), generator=generator)}


def label_loss(outputs, batch):
    return cross_entropy(outputs["logits"], batch["labels"])


def entropy_of(model) -> float:
    return Categorical(logits=model(make_batch()["x"])["logits"]).entropy().mean().item()


def after(strategy: str, loss_fn, **settings):
    model = Classifier()
    config = AdaptationConfig(lr=0.05, num_steps=20, **settings)
    info = create_adapter(model, config, strategy).adapt(loss_fn, make_batch())
    return model, info


def test_tent_lowers_entropy_without_labels():
    model, _ = after("tent", None)
    assert entropy_of(model) < 0.5 * entropy_of(Classifier())


def test_entropy_weight_trades_against_the_loss():
    entropies = [
        entropy_of(after("tent", label_loss, entropy_weight=weight)[0])
        for weight in (0.0, 0.3, 3.0)
    ]
    assert entropies[0] > entropies[1] > entropies[2]
    plain = entropy_of(after("none", label_loss, entropy_weight=3.0)[0])
    assert plain == pytest.approx(entropies[0], rel=1e-6)


def test_tent_reports_loss_plus_weighted_entropy():
    model, batch = Classifier(), make_batch()
    config = AdaptationConfig(entropy_weight=0.25)
    info = create_adapter(model, config, "tent").adapt(label_loss, batch)
    fresh = Classifier()
    expected = label_loss(fresh(**batch), batch).item() + 0.25 * entropy_of(fresh)
    assert info["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_missing_loss_or_strategy_is_rejected():
    with pytest.raises(ValueError, match="loss_fn"):
        after("none", None)
    with pytest.raises(ValueError, match=r"'tend'.*none, tent"):
        after("tend", None)


def test_a_users_strategy_takes_effect():
    @register_adaptation_strategy("quadratic")
    class Quadratic(AdaptationStrategy):
        def post_loss(self, loss, outputs, batch):
            return loss + 0.5 * outputs["logits"].square().mean()

    assert "quadratic" in strategy_names()
    batch = make_batch()
    shrunk, plain = after("quadratic", label_loss)[0], after("none", label_loss)[0]
    assert shrunk(**batch)["logits"].norm() < 0.8 * plain(**batch)["logits"].norm()
    with pytest.raises(ValueError, match="'tent'"):
        register_adaptation_strategy("tent")(Quadratic)


def test_meta_features_match_their_definitions():
    adapter, batch = create_adapter(Classifier()), make_batch()
    outputs = adapter.model(**batch)
    meta = adapter.observe(outputs, batch)
    categorical = Categorical(logits=outputs["logits"])
    assert meta.entropy == pytest.approx(categorical.entropy().mean().item(), rel=1e-5)
    assert meta.confidence == pytest.approx(categorical.probs.amax(-1).mean().item(), rel=1e-5)
    expected = (categorical.probs * (1 - categorical.probs)).sum(-1).mean().item()
    assert meta.variance == pytest.approx(expected, rel=1e-5)
    uniform = adapter.observe(torch.zeros(5, 3), batch)
    assert uniform.entropy == pytest.approx(math.log(3), rel=1e-6)
    assert uniform.confidence == pytest.approx(1 / 3, rel=1e-6)


def test_feature_shift_counts_running_standard_deviations():
    adapter = create_adapter(Classifier(), AdaptationConfig(feature_momentum=0.5))
    logits, features = torch.zeros(1000, 3), torch.randn(1000, 2) * torch.tensor([1.0, 4.0])
    moved = features + 3 * features.std(0)
    shifts = [
        adapter.observe(logits, None, part).feature_shift for part in (features, features, moved)
    ]
    assert shifts == pytest.approx([0.0, 0.0, 3.0], abs=0.02)


def test_feature_momentum_is_the_decay():
    def last_shift(momentum: float) -> float:
        adapter = create_adapter(Classifier(), AdaptationConfig(feature_momentum=momentum))
        torch.manual_seed(0)
        features = torch.randn(500, 2)
        adapter.observe(torch.zeros(5, 3), None, features)
        for _ in range(3):
            meta = adapter.observe(torch.zeros(5, 3), None, features + 2)
        return meta.feature_shift

    assert last_shift(0.2) < 0.3 < last_shift(0.95)


def test_the_documents_loop_runs_and_learns():
    model, batch = Classifier(), make_batch()
    adapter = create_adapter(model, AdaptationConfig(lr=0.05, entropy_weight=0.01), "tent")
    hook = SSMHook(adapter).attach(model)
    losses, shifts = [], []
    for step in range(30):
        batch = make_batch(shift=0.0 if step < 29 else 4.0)
        with adapter.context(model):
            outputs = model(**batch)
            features = hook.features(batch)
            shifts.append(adapter.observe(outputs, batch, features).feature_shift)
            info = adapter.adapt(label_loss, batch, fwd_fn=lambda batch: model(**batch))
        losses.append(info["loss"])
        torch.testing.assert_close(features, outputs["features"].detach(), atol=0, rtol=0)
    assert losses[28] < losses[0]
    assert shifts[29] > 3 * max(shifts[:29])


def test_the_hook_records_hidden_states_and_layers_until_detached():
    model = StateSpaceModel(5, 3, 2, 8)
    hook = SSMHook(create_adapter(model))
    with pytest.raises(RuntimeError, match="attach"):
        hook.features(None)
    x = torch.randn(4, 3)
    torch.testing.assert_close(hook.attach(model).features(x), model(x)[1].detach())
    assert not hook.features(x).requires_grad
    classifier = Classifier()
    layer = hook.attach(classifier, "body").features(make_batch())
    torch.testing.assert_close(layer, classifier.body(make_batch()["x"]).detach())
    hook.detach()
    assert not classifier.body._forward_hooks


def rl_batch(policy: ImprovedSSM, **changes):
    torch.manual_seed(1)
    obs = torch.randn(3, 8, 4)
    actions = torch.randn(3, 8, 2)
    batch = {
        "obs": obs,
        "actions": actions,
        "advantages": torch.randn(3, 8),
        "returns": torch.randn(3, 8),
    }
    return batch | changes


def test_policy_losses_match_their_definitions():
    torch.manual_seed(0)
    policy = ImprovedSSM(4, 2, state_dim=4, hidden_dim=8)
    hook = MetaRLHook(create_adapter(policy), clip=0.2, value_coef=0.7, entropy_coef=0.3)
    batch = rl_batch(policy)
    log_probs, values, entropy = outputs = hook.outputs(batch)
    rest = 0.7 * mse_loss(values, batch["returns"]) - 0.3 * entropy.mean()
    plain = -(log_probs * batch["advantages"]).mean() + rest
    torch.testing.assert_close(hook.loss(outputs, batch), plain)
    at_sampling = batch | {"log_probs": log_probs.detach()}
    expected = -batch["advantages"].mean() + rest  # every ratio is one
    torch.testing.assert_close(hook.loss(outputs, at_sampling), expected)
    far = batch | {"log_probs": log_probs.detach() - 1.0, "advantages": torch.ones(3, 8)}
    torch.testing.assert_close(hook.loss(outputs, far), rest - 1.2)  # clipped


def test_adapting_a_policy_makes_good_actions_more_likely():
    torch.manual_seed(0)
    policy = ImprovedSSM(4, 2, state_dim=4, hidden_dim=8)
    adapter = create_adapter(policy, AdaptationConfig(lr=0.02, num_steps=10))
    hook = MetaRLHook(adapter, value_coef=0.0)
    batch = rl_batch(policy, advantages=torch.ones(3, 8))
    before = hook.outputs(batch)[0].mean()
    assert hook.adapt(batch)["steps"] == 10
    assert hook.outputs(batch)[0].mean() > before + 0.1
