"""MONAI's networks, in and out, without MONAI."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deepedit.clicks import Clicks, render_guidance
from deepedit.errors import ModelError
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import read_volume
from deepedit.network.dynunet import channel_orders, dynunet_arguments
from deepedit.network.inputs import assemble_input
from deepedit.network.monai import export_dynunet, import_dynunet, import_model
from deepedit.network.monai_files import read_dynunet
from deepedit.transforms.preprocess import Preprocessor
from tests.network.conftest import make_model
from tests.network.dynunet import (
    FILTERS,
    FLAT,
    ONE,
    ORGANS,
    STRIDES,
    TWO,
    organ_weights,
    random_input,
    random_state_dict,
    run_state_dict,
)

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
golden = pytest.mark.skipif(not PARITY.is_dir(), reason="the golden vectors are not beside the repository")

# What MONAI computed


@golden
def test_logits_are_those_that_monai_computed():
    made = json.loads((PARITY / "dynunet.json").read_text())
    network = import_dynunet(read_dynunet(PARITY / "dynunet.pt"), made["labels"], strides=made["network"]["strides"])
    vectors = np.load(PARITY / "dynunet_io.npz")
    with torch.no_grad():
        logits = network(torch.from_numpy(vectors["input"]))
    np.testing.assert_allclose(logits.numpy(), vectors["output"], atol=1e-4)
    assert dynunet_arguments(network)["filters"] == made["network"]["filters"]


@golden
def test_the_network_is_given_what_monai_makes_of_a_file_and_its_clicks():
    made = json.loads((PARITY / "pipeline.json").read_text())
    model = import_model(read_dynunet(PARITY / "dynunet.pt"), {"spleen": 1}, grid=tuple(made["size"]))
    preprocess = Preprocessor(model.plan)
    image, grid = preprocess(read_volume(PARITY / "pipeline_image.nii.gz"))
    clicks = []
    for name, voxels in made["clicks"].items():
        on_grid = [preprocess.click(voxel, grid).tolist() for voxel in voxels]
        assert on_grid == made["clicks_on_network_grid"][name]
        index = torch.full((len(voxels),), model.plan.labels.index(name))
        clicks.append(Clicks(torch.zeros_like(index), index, torch.tensor(on_grid)))
    plan = model.plan
    guidance = render_guidance(Clicks.cat(clicks), made["size"], 2, sigma=plan.sigma, combine=plan.guidance)
    ours = assemble_input(image[None], guidance, None)
    np.testing.assert_allclose(ours[0].numpy(), np.load(PARITY / "pipeline.npz")["input"], atol=1e-4)


@golden
def test_exporting_what_was_imported_gives_every_tensor_back():
    model = import_model(read_dynunet(PARITY / "dynunet.pt"), {"spleen": 1}, grid=(64, 64, 32))
    theirs = torch.load(PARITY / "dynunet.pt", weights_only=True)
    ours = export_dynunet(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# The network


def test_the_published_configuration():
    filters = (32, 64, 128, 256, 320, 320)
    strides = (ONE, TWO, TWO, TWO, TWO, FLAT)
    weights = random_state_dict(3, 2, filters, strides)
    network = import_dynunet(weights, {"spleen": 1})
    assert dynunet_arguments(network) == {
        "spatial_dims": 3,
        "in_channels": 3,
        "out_channels": 2,
        "kernel_size": [3, 3, 3, 3, 3, 3],
        "strides": [1, 2, 2, 2, 2, (2, 2, 1)],
        "upsample_kernel_size": [2, 2, 2, 2, (2, 2, 1)],
        "filters": [32, 64, 128, 256, 320, 320],
        "norm_name": ("instance", {"affine": False}),
        "res_block": True,
    }
    # By hand: conv1, conv2 and shortcut of the blocks down, transposed convolutions, blocks up, head with its bias.
    wide = (3, *filters)
    down = sum(27 * a * b + 27 * b * b + a * b for a, b in zip(wide[:-1], filters, strict=True))
    up = sum((4 if low == 4 else 8) * filters[low] * filters[low + 1] for low in range(5))
    up += sum(27 * 2 * c * c + 27 * c * c for c in filters[:-1])
    assert sum(each.numel() for each in network.parameters()) == down + up + 2 * 32 + 2 == 31_001_282
    assert network.config.divisor == (32, 32, 16)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_output_is_that_of_the_tensors_themselves(affine, kernel):
    weights = random_state_dict(3, 2, FILTERS, STRIDES, kernel, affine)
    network = import_dynunet(weights, {"spleen": 1}, strides=[1, 2, (2, 2, 1)])
    x = random_input(3)
    torch.testing.assert_close(network(x), run_state_dict(weights, x, STRIDES), atol=1e-5, rtol=1e-5)


def test_a_block_whose_channels_stay_has_no_weights_beside_it():
    weights = random_state_dict(3, 2, (3, 3, 4), STRIDES)
    x = random_input(3)
    expected = run_state_dict(weights, x, STRIDES)
    network = import_dynunet(weights, {"spleen": 1})
    assert network.encoder[0].shortcut is None
    torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


def test_two_image_channels():
    weights = random_state_dict(4, 2, FILTERS, STRIDES)
    model = import_model(weights, {"spleen": 1}, grid=(8, 8, 4))
    assert model.plan.image_channels == 2
    x = random_input(4)
    torch.testing.assert_close(model.network(x), run_state_dict(weights, x, STRIDES), atol=1e-5, rtol=1e-5)


# Images and clicks


def test_a_session_prepares_images_and_clicks_as_monai_does():
    weights = random_state_dict(3, 2, FILTERS, STRIDES)
    model = import_model(weights, {"spleen": 1}, grid=(8, 12, 10))
    hounsfield = np.random.default_rng(0).normal(0, 200, (13, 11, 20)).astype(np.float32)
    session = InteractiveSession(model, amp="off")
    session.set_image(hounsfield)
    session.add_click((12, 4, 7), "spleen")
    session.add_click((3, 10, 19), "background")
    # Voxel * 8 / 13 and so on, truncated.
    at = torch.tensor([[7, 4, 3], [1, 10, 9]])
    clicks = Clicks(torch.zeros(2, dtype=torch.int64), torch.tensor([1, 0]), at)
    window = torch.from_numpy((hounsfield + 175) / 425).clamp(0, 1)[None, None]
    guidance = render_guidance(clicks, (8, 12, 10), 2, sigma=3.0, combine="sum-normalized")
    x = torch.cat((F.adaptive_avg_pool3d(window, (8, 12, 10)), guidance), dim=1)
    expected = run_state_dict(weights, x, STRIDES)
    torch.testing.assert_close(session._timeline.state.logits.float()[None], expected, atol=2e-2, rtol=2e-3)


# Channels


def test_the_two_orders_as_the_reference_has_them():
    # Ours: 0 background, 1 spleen, 2 kidney, 3 liver.
    assert channel_orders(ORGANS, "sorted") == ([0, 2, 3, 1], [0, 2, 3, 1])
    assert channel_orders(ORGANS, "dict") == ([3, 1, 2, 0], [0, 3, 1, 2])
    assert channel_orders({"spleen": 1, "background": 0}, "dict") == ([1, 0], [0, 1])


@pytest.mark.parametrize("order", ["sorted", "dict"])
def test_every_channel_means_here_what_it_meant_there(order):
    weights = organ_weights()
    theirs = {
        "sorted": (["background", "kidney", "liver", "spleen"], ["background", "kidney", "liver", "spleen"]),
        "dict": (["liver", "spleen", "kidney", "background"], ["background", "liver", "spleen", "kidney"]),
    }[order]
    x = random_input(5)
    guidance = dict(zip(theirs[0], x[0, 1:], strict=True))
    expected = dict(zip(theirs[1], run_state_dict(weights, x, STRIDES)[0], strict=True))
    model = import_model(weights, ORGANS, order, grid=(8, 8, 4))
    names = model.plan.labels.class_names
    assert names == ("background", "spleen", "kidney", "liver")
    logits = model.network(torch.stack([x[0, 0], *(guidance[name] for name in names)])[None])[0]
    for name, found in zip(names, logits, strict=True):
        torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ["sorted", "dict"])
@pytest.mark.parametrize("affine", [False, True])
def test_import_export_import_changes_nothing(order, affine):
    weights = organ_weights(affine=affine)
    model = import_model(weights, ORGANS, order, grid=(8, 8, 4))
    exported = export_dynunet(model, order, ORGANS)
    assert all(torch.equal(exported[name], weights[name]) for name in weights)
    assert all(name.startswith("skip_layers.") for name in exported.keys() - weights.keys())
    again = import_model(exported, ORGANS, order, grid=(8, 8, 4))
    x = random_input(5)
    assert torch.equal(again.network(x), model.network(x))


def test_exported_for_one_order_it_can_be_read_in_that_order_only():
    model = import_model(organ_weights(), ORGANS, "dict", grid=(8, 8, 4))
    moved = export_dynunet(model, "sorted")
    x = random_input(5)
    assert torch.equal(import_dynunet(moved, ORGANS, "sorted")(x), model.network(x))
    assert not torch.allclose(import_dynunet(moved, ORGANS, "dict")(x), model.network(x))


def test_what_monai_has_no_form_for_is_not_exported():
    with pytest.raises(ModelError, match="previous segmentation"):
        export_dynunet(make_model())
    model = import_model(organ_weights(), ORGANS, grid=(8, 8, 4))
    with pytest.raises(ModelError, match="labels should be those of the model: spleen, kidney, liver"):
        export_dynunet(model, labels={"spleen": 1})


# What is refused


def refusal(weights, labels=ORGANS, **more):
    with pytest.raises(ModelError) as caught:
        import_dynunet(weights, labels, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_other_networks_are_told_by_name():
    assert "UNETR" in refusal({"vit.patch_embedding.cls_token": torch.zeros(1)})
    assert "lack input_block, downsamples, bottleneck" in refusal({"model.0.conv.weight": torch.zeros(1)})
    plain = {name: tensor for name, tensor in organ_weights().items() if ".conv3." not in name}
    assert "without residual blocks" in refusal(plain)
    assert "batch norm" in refusal(organ_weights() | {"bottleneck.norm1.running_mean": torch.zeros(6)})
    assert "bias" in refusal(organ_weights() | {"upsamples.0.transp_conv.conv.bias": torch.zeros(5)})
    flat = {name: tensor[..., 0] if tensor.ndim == 5 else tensor for name, tensor in organ_weights().items()}
    assert "no 3D network" in refusal(flat)
    assert "only odd kernels" in refusal(random_state_dict(5, 4, FILTERS, (ONE, TWO, (3, 3, 3))))


def test_labels_and_strides_that_do_not_fit_are_told():
    message = refusal(organ_weights(), {"spleen": 1})
    assert "take 5 channels and give 4" in message
    assert "background, spleen" in message
    assert "strides 1,2,2 were asked for" in refusal(organ_weights(), strides=[1, 2, 2])
    with pytest.raises(ModelError, match="multiple of 4,4,2"):
        import_model(organ_weights(), ORGANS, grid=(8, 8, 5))


def test_a_stride_of_zero_does_not_make_a_network_of_terabytes():
    weights = random_state_dict(3, 2, FILTERS, STRIDES)
    weights["bottleneck.conv1.conv.weight"] = torch.zeros(1).expand(2**20, 2**20, 3, 3, 3)
    refusal(weights, {"spleen": 1})


NAMES = sorted(organ_weights())


@settings(max_examples=60, deadline=None)
@example(name="upsamples.1.transp_conv.conv.weight", harm="shrink", axis=2)
@given(
    name=st.sampled_from(NAMES),
    harm=st.sampled_from(["lose", "grow", "shrink", "flatten", "integers", "text", "rename"]),
    axis=st.integers(0, 4),
)
def test_damaged_weights_are_refused_with_one_line(name, harm, axis):
    weights = organ_weights()
    tensor = weights.pop(name)
    axis = axis % tensor.ndim
    if harm == "grow":
        weights[name] = torch.cat((tensor, tensor), dim=axis)
    elif harm == "shrink":
        weights[name] = tensor.narrow(axis, 0, tensor.shape[axis] - 1)
    elif harm == "flatten":
        assume(tensor.ndim > 1)
        weights[name] = tensor.flatten()
    elif harm == "integers":
        weights[name] = tensor.long()
    elif harm == "text":
        weights[name] = "weights"
    elif harm == "rename":
        weights[name + ".more"] = tensor
    # A transposed convolution that has shrunk is that of another stride, which only the strides tell.
    refusal(weights, strides=[1, 2, (2, 2, 1)])
