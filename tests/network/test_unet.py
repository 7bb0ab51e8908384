"""The network's shapes, its published configuration, and what its weights depend on."""

import itertools
import math

import pytest
import torch
from torch import nn

from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.network.unet import ResidualUNet, build_network, convolution, norm

TINY = UNetConfig(filters=(2, 4, 6), strides=(1, 2, (2, 1, 2)), kernels=(3, 3, (3, 1, 3)))


def test_logits_have_the_shape_of_the_input_for_every_multiple_of_the_divisor():
    network = ResidualUNet(3, 5, TINY).eval()
    assert TINY.divisor == (4, 2, 4)
    for shape in ((4, 4, 4), (8, 2, 12), (16, 6, 8)):
        assert network(torch.zeros(2, 3, *shape)).shape == (2, 5, *shape)


def test_the_reference_configuration_has_the_published_levels():
    config = NETWORKS["reference"]
    network = ResidualUNet(3, 2, config)
    assert config.divisor == (32, 32, 16)
    assert [block.conv1.weight.shape[0] for block in network.encoder] == [32, 64, 128, 256, 320, 320]
    assert [block.conv1.weight.shape[:2] for block in network.decoder] == [
        (32, 64),
        (64, 128),
        (128, 256),
        (256, 512),
        (320, 640),
    ]
    # Counted by hand from the published description: 3 x 3 x 3 kernels without bias, two affine norms a block, one
    # shortcut where the shape changes, transposed convolutions as large as their stride.
    filters = (3, 32, 64, 128, 256, 320, 320)
    down = sum(27 * a * b + 27 * b * b + a * b + 6 * b for a, b in itertools.pairwise(filters))
    steps = (8, 8, 8, 8, 4)
    up = sum(
        s * a * b + 27 * 2 * a * a + 27 * a * a + 4 * a
        for a, b, s in zip(filters[1:], filters[2:], steps, strict=False)
    )
    head = 32 * 2 + 2
    assert sum(p.numel() for p in network.parameters()) == down + up + head


def test_each_sample_is_computed_by_itself():
    network = build_network(2, 3, TINY, seed=0).eval()
    batch = torch.randn(3, 2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([network(sample[None]) for sample in batch])
    torch.testing.assert_close(network(batch), alone)


@pytest.mark.parametrize("stride", [1, 2, (1, 2, 2), (2, 2, 1)], ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 1, 2), (1, 1, 1), (3, 1, 4), (4, 4, 1), (5, 4, 3)], ids=str)
def test_gradients_in_mixed_precision_are_those_of_float32_in_small_images_too(shape, stride):
    layer = convolution(16, 32, 3, stride)
    image = torch.randn(2, 16, *shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    expected = torch.autograd.grad(layer(image).square().mean(), [layer.weight, image])
    # What a library reads without having set it is what was freed last.
    freed = [torch.full((2**size,), math.nan, dtype=torch.bfloat16) for size in range(5, 20)]
    del freed
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(image).float().square().mean()
    for gradient, exact in zip(torch.autograd.grad(loss, [layer.weight, image]), expected, strict=True):
        assert (gradient - exact).norm() < 0.02 * exact.norm()


def test_weights_depend_on_the_seed_alone_and_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    one, again, other = (build_network(2, 3, TINY, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["encoder.0.conv1.weight"], other["encoder.0.conv1.weight"])


@pytest.mark.parametrize(
    ("filters", "strides", "kernels"),
    [((4,), (1,), (3,)), ((4, 8), (1,), (3, 3)), ((4, 8), (2, 2), (3, 3))],
)
def test_a_configuration_that_does_not_fit_together_is_refused(filters, strides, kernels):
    with pytest.raises(ValueError, match=r"levels|resolution"):
        UNetConfig(filters, strides, kernels)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_norms_equal_torchs_instance_norm_in_value_and_gradient(affine, layout):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = norm(5, affine), nn.InstanceNorm3d(5, affine=affine)
    if affine:
        with torch.no_grad():
            for parameter in (ours.weight, ours.bias):
                parameter.copy_(torch.randn(5, generator=generator))
        theirs.load_state_dict(ours.state_dict())
    x = (3 * torch.randn(3, 5, 4, 6, 2, generator=generator) + 7).contiguous(memory_format=layout)
    towards = torch.randn(x.shape, generator=generator)
    results = []
    for module in (ours, theirs):
        given = x.clone().requires_grad_()
        y = module.train()(given)
        parameters = list(module.parameters())
        results.append([y, *torch.autograd.grad(y, [given, *parameters], towards)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_norms_of_a_large_volume_are_exact(layout):
    x = 2 * torch.randn(2, 4, 72, 64, 64, generator=torch.Generator().manual_seed(0)) + 5
    exact = nn.functional.instance_norm(x.double()).float()
    with torch.no_grad():
        found = norm(4)(x.contiguous(memory_format=layout))
    torch.testing.assert_close(found, exact, atol=5e-6, rtol=0)
