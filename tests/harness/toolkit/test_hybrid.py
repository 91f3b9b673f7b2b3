"""Experience replay: the buffer, and the adapter that learns from it."""

import math
import time

import pytest
import torch
from torch.nn.functional import mse_loss

from harness.toolkit import AdaptationConfig, ExperienceBuffer, HybridAdapter, StandardAdapter
from policies.ssm import StateSpaceModel


def make_model() -> StateSpaceModel:
    torch.manual_seed(0)
    return StateSpaceModel(state_dim=6, input_dim=3, output_dim=2, hidden_dim=8)


def make_data(batch: int = 4, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, width, generator=generator) for width in (3, 2, 6))


def flat(model) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def test_the_buffer_keeps_the_last_pairs_and_samples_them_without_replacement():
    buffer = ExperienceBuffer(max_size=10, seed=0)
    assert buffer.get_batch(4) is None
    for start in range(0, 27, 3):
        numbers = torch.arange(start, start + 3).float()
        buffer.add(numbers.unsqueeze(1), -numbers)
    assert len(buffer) == 10
    counts = torch.zeros(27)
    for _ in range(2000):
        x, y = buffer.get_batch(4)
        assert torch.equal(x.flatten(), -y)
        assert len(set(y.tolist())) == 4
        counts[x.flatten().long()] += 1
    assert (counts[:17] == 0).all()
    assert (counts[17:] / 800 - 1).abs().max() < 0.15
    assert len(buffer.get_batch(99)[0]) == 10


def test_the_buffer_keeps_the_end_of_a_batch_larger_than_itself():
    buffer = ExperienceBuffer(max_size=4)
    buffer.add(torch.arange(3).unsqueeze(1), torch.arange(3))
    buffer.add(torch.arange(10, 17).unsqueeze(1), torch.arange(10, 17))
    assert sorted(buffer.get_batch(4)[1].tolist()) == [13, 14, 15, 16]


def test_the_cost_of_sampling_does_not_grow_with_the_buffer():
    def seconds(size: int) -> float:
        buffer = ExperienceBuffer(max_size=size)
        buffer.add(torch.zeros(size, 1), torch.zeros(size, 1))
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(20):
                buffer.get_batch(32)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(2_000_000) < 15 * seconds(1_000)


def test_the_buffer_rejects_other_shapes():
    buffer = ExperienceBuffer(8)
    buffer.add(torch.zeros(2, 3), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"2 .* 1 "):
        buffer.add(torch.zeros(2, 3), torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"\(4,\).*\(3,\)"):
        buffer.add(torch.zeros(2, 4), torch.zeros(2, 1))
    assert len(buffer) == 2


def hybrid(buffer: ExperienceBuffer, **settings) -> torch.Tensor:
    config = AdaptationConfig(0.1, optimizer="sgd", max_grad_norm=None, **settings)
    adapter = HybridAdapter(make_model(), config, buffer)
    adapter.update_step(*make_data())
    return flat(adapter.model)


def test_hybrid_minimizes_current_and_past_loss_together():
    model, (x, y, hidden), (x_past, y_past, _) = make_model(), make_data(), make_data(8, seed=9)
    buffer = ExperienceBuffer(100)
    buffer.add(x_past, y_past)
    loss = mse_loss(model(x, hidden)[0], y) + 0.3 * mse_loss(model(x_past)[0], y_past)
    loss.backward()
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(hybrid(buffer, experience_weight=0.3), expected)


def test_hybrid_without_experience_or_with_weight_zero_is_standard():
    config = AdaptationConfig(0.1, optimizer="sgd", max_grad_norm=None)
    standard = StandardAdapter(make_model(), config)
    standard.update_step(*make_data())
    buffer = ExperienceBuffer(100)
    torch.testing.assert_close(hybrid(buffer), flat(standard.model))
    buffer.add(*make_data(8, seed=9)[:2])
    torch.testing.assert_close(hybrid(buffer, experience_weight=0.0), flat(standard.model))
    assert not torch.allclose(hybrid(buffer), flat(standard.model))


def test_hybrid_samples_experience_batch_size_experiences():
    buffer, sizes = ExperienceBuffer(100), []
    buffer.add(*make_data(50, seed=9)[:2])
    get_batch = buffer.get_batch
    buffer.get_batch = lambda size: sizes.append(size) or get_batch(size)
    hybrid(buffer, experience_batch_size=7, num_steps=3)
    assert sizes == [7, 7, 7]
