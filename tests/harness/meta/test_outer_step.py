"""The outer steps: TRPO's pieces on known systems, and what a non-finite gradient does."""

import math

import pytest
import torch

import policies
from harness.conformance.adapters import make_params
from harness.meta.learners import trpo
from harness.meta.learners.base import GradientRequest, LossRequest
from harness.meta.learners.maml import MAMLSettings, ppo_step
from harness.meta.learners.state import LearnerState
from harness.meta.learners.sums import Losses, PartialGradient
from harness.meta.learners.trpo import HessianVectorRequest, TrustRegionLosses, trpo_step
from policies.params import clone
from tests.harness.meta.meta_cases import (
    along,
    collected,
    directions,
    dot,
    make_objective,
    make_policy,
    moved,
)


def drive(generator, answer):
    """Answer every request of ``generator``; return its value and the payloads' types."""
    kinds = []
    try:
        request = next(generator)
        while True:
            kinds.append(type(request.payload))
            request = generator.send(answer(request))
    except StopIteration as stop:
        return stop.value, kinds


@pytest.mark.parametrize("name", policies.names())
def test_hvp_equals_finite_differences_of_the_kl_gradient(name):
    policy = make_policy(name)
    start = make_params(policy)
    data = collected(policy, start, 1)
    objective = make_objective(policy, outer="trpo")
    params, vector = moved(start), directions(start, 1)

    def kl_gradient(at):
        leaves = clone(at, requires_grad=True)
        kl = objective.terms(leaves, data, create_graph=True).outer_kl.mean()
        grads = torch.autograd.grad(kl, list(leaves.values()), allow_unused=True)
        return {
            key: torch.zeros_like(leaf) if grad is None else grad
            for (key, leaf), grad in zip(leaves.items(), grads, strict=True)
        }

    ends = [kl_gradient(along(params, vector, h)) for h in (1e-6, -1e-6)]
    leaves = clone(params, requires_grad=True)
    kl = objective.terms(leaves, data, create_graph=True).outer_kl.mean()
    product = trpo.hessian_vector_product(kl, leaves, vector).gradient
    for seed in range(3):
        probe = directions(start, 10 + seed)
        expected = (dot(ends[0], probe) - dot(ends[1], probe)) / 2e-6
        assert dot(product, probe) == pytest.approx(expected, rel=2e-5, abs=1e-6)


def spd_system(size: int = 6):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(size, dtype=torch.float64)
    right = torch.randn(size, generator=generator, dtype=torch.float64)
    return matrix, right


def split(x: torch.Tensor):
    return {"a": x[:2].reshape(1, 2), "b": x[2:].reshape(1, -1)}


def joined(params) -> torch.Tensor:
    return torch.cat([params["a"].flatten(), params["b"].flatten()])


def test_conjugate_gradient_solves_a_known_system():
    """The Hessian comes in two jobs' shares, which add up."""
    matrix, right = spd_system()

    def answer(request):
        product = split(matrix @ joined(request.payload.vector))
        shares = [{key: share * value for key, value in product.items()} for share in (0.3, 0.7)]
        return [PartialGradient(share, Losses()) for share in shares]

    zeros = split(torch.zeros_like(right))
    solution, kinds = drive(trpo.conjugate_gradient(zeros, split(right)), answer)
    expected = torch.linalg.solve(matrix + trpo.CG_DAMPING * torch.eye(6), right)
    torch.testing.assert_close(joined(solution), expected, rtol=1e-5, atol=1e-6)
    assert set(kinds) == {HessianVectorRequest}
    assert len(kinds) <= 8


class Quadratic:
    """A worker of KL ½ d'Hd and surrogate g'd + curvature |d|²/2, d counted from the start."""

    kl_factor = 1.0
    """How far the KL of a finite step is from what its Hessian says."""

    def __init__(self, start: torch.Tensor, curvature: float) -> None:
        self.matrix, self.slope = spd_system()
        self.start, self.curvature = start, curvature

    def losses(self, params) -> TrustRegionLosses:
        d = joined(params).double() - self.start
        surrogate = float(self.slope @ d + 0.5 * self.curvature * d @ d)
        return TrustRegionLosses(surrogate, self.kl_factor * float(0.5 * d @ self.matrix @ d))

    def __call__(self, request):
        payload = request.payload
        if isinstance(payload, HessianVectorRequest):
            product = split(self.matrix @ joined(payload.vector).double())
            return [PartialGradient(product, Losses())]
        losses = self.losses(payload.params)
        if isinstance(payload, GradientRequest):
            return [PartialGradient(split(self.slope), losses)]
        return [PartialGradient({}, losses)]


def fresh_state(values: torch.Tensor) -> LearnerState:
    return LearnerState.fresh(split(values), 1e-2, 3, True)


@pytest.mark.parametrize(("curvature", "backtracks"), [(0.0, 1), (60.0, 15)])
def test_trpo_step_stays_in_the_ball_and_decreases_the_surrogate(curvature, backtracks):
    start = torch.arange(6, dtype=torch.float64)
    state, worker = fresh_state(start), Quadratic(start, curvature)
    max_kl = 0.02
    info, kinds = drive(trpo_step(state, max_kl), worker)
    after = worker.losses(state.params)
    assert after.outer_kl <= max_kl
    assert after.surrogate < 0
    assert info["surrogate"] == pytest.approx(after.surrogate)
    assert kinds[0] is GradientRequest
    assert kinds.count(LossRequest) <= backtracks
    if curvature == 0:
        # Linear surrogate, quadratic KL: the first or second trial fills the ball.
        assert after.outer_kl > 0.6 * max_kl
        best = -math.sqrt(2 * max_kl * float(worker.slope @ worker.matrix.inverse() @ worker.slope))
        assert after.surrogate < 0.75 * best


def test_trpo_step_backtracks_into_the_ball_where_the_quadratic_model_is_too_hopeful():
    start = torch.arange(6, dtype=torch.float64)
    state, worker = fresh_state(start), Quadratic(start, 0.0)
    worker.kl_factor = 5.0
    max_kl = 0.02
    info, _ = drive(trpo_step(state, max_kl), worker)
    assert 0 < worker.losses(state.params).outer_kl <= max_kl
    assert info["backtracks"] == 4  # 0.8^(2 * 4) < 1/5 < 0.8^(2 * 3)


def test_trpo_step_that_finds_nothing_better_changes_nothing():
    start = torch.arange(6, dtype=torch.float64)
    state, worker = fresh_state(start), Quadratic(start, curvature=1e9)
    info, kinds = drive(trpo_step(state, 0.01), worker)
    assert torch.equal(joined(state.params), start)
    assert kinds.count(LossRequest) == trpo.BACKTRACKS == info["backtracks"]


def test_trpo_step_with_a_non_finite_curvature_is_skipped_and_counted():
    start = torch.arange(6, dtype=torch.float64)
    state, worker = fresh_state(start), Quadratic(start, curvature=0.0)
    worker.matrix = worker.matrix * math.nan
    drive(trpo_step(state, 0.01), worker)
    assert torch.equal(joined(state.params), start)
    state.finish_iteration([], {})
    assert state.skipped == 1


def adam_bytes(state: LearnerState):
    tensors, meta = state.save()
    return {key: value.clone() for key, value in tensors.items()}, meta


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def gradient_of(value: float):
    gradient = split(torch.full((6,), 1.0))
    gradient["b"][0, 1] = value
    return lambda request: [PartialGradient(gradient, TrustRegionLosses(0.0, 0.0))]


def step_of(state: LearnerState, settings: MAMLSettings):
    if settings.outer == "trpo":
        return trpo_step(state, settings.max_kl)
    return ppo_step(state, settings)


@pytest.mark.parametrize("outer_step", ["ppo", "trpo"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_gradient_is_skipped_and_counted(outer_step, bad):
    state = fresh_state(torch.ones(6))
    settings = MAMLSettings(outer_updates=2, outer=outer_step)
    if outer_step == "ppo":
        drive(ppo_step(state, settings), gradient_of(0.5))
    before, _ = adam_bytes(state)
    for skipped in (1, 2):
        _, kinds = drive(step_of(state, settings), gradient_of(bad))
        assert kinds == [GradientRequest]
        state.finish_iteration([], {})
        assert state.skipped == skipped
        assert same(adam_bytes(state)[0], before)


def test_a_finite_gradient_forgives_the_skipped_ones():
    state = fresh_state(torch.ones(6))
    settings = MAMLSettings(outer_updates=1)
    for value in (math.nan, 1.0, math.nan, 1.0):
        drive(ppo_step(state, settings), gradient_of(value))
        state.finish_iteration([], {})
    assert state.skipped == 0


def test_a_second_step_that_is_always_nan_is_counted_too():
    state = fresh_state(torch.ones(6))
    settings = MAMLSettings(outer_updates=2)
    values = iter((1.0, math.nan) * 2)

    def answers(request):
        return gradient_of(next(values))(request)

    for skipped in (1, 2):
        drive(ppo_step(state, settings), answers)
        state.finish_iteration([], {})
        assert state.skipped == skipped


def test_ppo_step_asks_with_new_parameters_and_clips_the_norm():
    state = fresh_state(torch.ones(6))
    asked, stepped = [], []
    state_step = LearnerState.adam_step
    big = gradient_of(100.0)

    def answer(request):
        asked.append(joined(request.payload.params))
        return big(request)

    def record(self, gradient, scale):
        stepped.append(scale * float(joined(gradient).norm()))
        state_step(self, gradient, scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LearnerState, "adam_step", record)
        info, _ = drive(ppo_step(state, MAMLSettings(outer_updates=3, max_grad_norm=0.5)), answer)
    assert len(asked) == 3
    assert not torch.equal(asked[0], asked[1])
    assert torch.equal(asked[0], torch.ones(6))
    assert stepped == pytest.approx([0.5] * 3, rel=1e-4)
    assert info["grad_norm"] == pytest.approx(math.sqrt(100.0**2 + 5))
