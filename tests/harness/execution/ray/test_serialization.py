"""Serialization: tensors arrive unchanged, strides included, and small ones travel inline."""

import time

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle

from harness.execution.ray import serialization

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(shape=SHAPES, data=st.data())
def test_a_tensor_arrives_as_it_was(shape, data):
    order = data.draw(st.permutations(range(len(shape))))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]))
    sent = (torch.randn(shape) * 9).to(dtype).permute(order)
    before = sent.clone()
    came = serialization.unpack(serialization.pack(sent))
    assert came.dtype == dtype
    assert torch.equal(came, before)
    assert came.stride() == sent.stride()
    came += True  # it has memory of its own
    assert torch.equal(sent, before)


@pytest.mark.parametrize(
    "view", [torch.ones(5, 6)[:, ::2], torch.ones(3, 1).expand(3, 4), torch.ones(8)[3:5]]
)
def test_only_the_elements_of_a_view_are_sent(view):
    elements, *_ = serialization.pack(view)
    assert elements.size == view.numel()
    assert torch.equal(serialization.unpack(serialization.pack(view)), view)


def test_requires_grad_is_kept():
    assert serialization.unpack(serialization.pack(torch.ones(2, requires_grad=True))).requires_grad
    assert not serialization.unpack(serialization.pack(torch.ones(2))).requires_grad


class Sender:
    """Returns tensors, or their pickles."""

    def send(self, size):
        return torch.arange(size, dtype=torch.float32)

    def pickled(self, size):
        return cloudpickle.dumps(self.send(size), protocol=5, buffer_callback=lambda _: None)


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_an_actor_sends_arrays_and_small_values_inline():
    sender = ray.remote(num_cpus=0)(Sender).remote()
    serialization.install_in_actor(sender)
    assert b"torch.storage" not in ray.get(sender.pickled.remote(1000))
    gradient, large = sender.send.remote(50_000), sender.send.remote(500_000)
    assert torch.equal(ray.get(gradient), torch.arange(50_000.0))
    assert torch.equal(ray.get(large), torch.arange(500_000.0))
    for _ in range(100):  # the owner learns of a place a moment after the value can be read
        places = ray.experimental.get_object_locations([gradient, large])
        if places[large]["node_ids"]:
            break
        time.sleep(0.1)
    assert not places[gradient]["node_ids"]
    assert places[large]["node_ids"]
    ray.kill(sender)
