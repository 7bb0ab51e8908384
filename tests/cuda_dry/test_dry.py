"""The dry device itself: what it lets pass, what it counts, and what it calls a wait."""

import pytest
import torch

from deepedit.devices import upload
from deepedit.transforms.corrupt import outline_of


def waits(dry):
    return [each.what for each in dry.record.waits]


def test_a_mix_of_devices_fails(dry):
    on_device, on_host = torch.zeros(3, device="cuda"), torch.zeros(3)
    for mix in (lambda: on_device + on_host, lambda: torch.cat((on_device, on_host)), lambda: on_host + on_device):
        with pytest.raises(RuntimeError, match=r"cuda|device"):
            mix()
    assert (on_device + torch.tensor(1.0)).device.type == "cuda"
    assert torch.randint(9, (3,), device="cuda", generator=torch.Generator("cuda")).device.type == "cuda"
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x.unique(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: torch.equal(x, x),
        lambda x: torch.zeros(5).copy_(x),
        lambda x: x.repeat_interleave(torch.ones(5, dtype=torch.int64, device="cuda")),
    ],
)
def test_what_the_host_asks_of_the_device_is_a_wait(dry, ask):
    ask(torch.zeros(5, device="cuda"))
    assert len(dry.record.waits) == 1, waits(dry)


def test_what_needs_no_answer_is_none(dry):
    x = torch.zeros(5, device="cuda")
    x[2] = 3
    x[1:3] = 0
    x[torch.zeros(2, dtype=torch.int64, device="cuda")] = 1
    x.masked_fill_(x > 0, 2)
    x.cumsum(0).argmax()
    x.repeat_interleave(2)
    assert not dry.record.waits
    assert not dry.record.uploads


@pytest.mark.parametrize(
    "bring",
    [
        lambda: torch.tensor([1, 2], device="cuda"),
        lambda: torch.as_tensor([1, 2], device="cuda"),
        lambda: torch.zeros(2, device="cuda").new_tensor([1, 2]),
        lambda: torch.zeros(2).to("cuda"),
        lambda: torch.zeros(2).cuda(),
        lambda: torch.zeros(2).to("cuda", non_blocking=True),
        lambda: torch.zeros(2).pin_memory().to("cuda"),
        lambda: torch.zeros(2, device="cuda").copy_(torch.zeros(2)),
    ],
)
def test_a_copy_that_blocks_or_is_not_from_pinned_memory_is_an_upload_to_wait_for(dry, bring):
    bring()
    assert len(dry.record.uploads) == 1
    assert not dry.record.waits


def test_what_is_brought_from_pinned_memory_is_not_waited_for(dry):
    assert upload([1, 2], "cuda").device.type == "cuda"
    torch.zeros(4).pin_memory()[1:3].to("cuda", non_blocking=True)
    torch.zeros(4, pin_memory=True).to("cuda", non_blocking=True)
    torch.zeros(4, device="cuda").copy_(torch.zeros(4).pin_memory(), non_blocking=True)
    assert not dry.record.uploads


def test_kernels_and_bytes_are_counted(dry):
    x = torch.empty(1000, device="cuda")
    with dry.recording() as record:
        x.view(10, 100).t()[3:].expand(2, 97, 10)
        assert (record.launches, record.bytes) == (0, 0)
        x.zero_()
        assert (record.launches, record.bytes) == (1, 4000)
        x.add_(1)
        assert (record.launches, record.bytes) == (2, 12000)
        x[:1].expand(1000) + x
        assert (record.launches, record.bytes) == (3, 12000 + 4 + 8000)
    assert record.kernels == {"zero_": 1, "add_": 1, "add": 1}


def test_operators_on_lists_start_as_many_kernels_as_their_tensors_need(dry):
    few = [torch.empty(10, device="cuda") for _ in range(60)]
    large = [torch.empty(2**25, device="cuda")]
    with dry.recording() as record:
        torch._foreach_mul_(few, 2.0)
        torch._foreach_add_(few, few)
        assert record.launches == 2
        torch._foreach_mul_(large, 2.0)
        assert record.launches == 4


@torch.library.custom_op("deepedit_dry::halve", mutates_args=())
def halve(x: torch.Tensor) -> torch.Tensor:
    raise AssertionError("followed by its shapes alone, an operator is never run")


@halve.register_fake
def _(x):
    return x.new_empty(x.shape[0] // 2)


def test_an_operator_of_ones_own_is_one_kernel_and_its_inputs_and_outputs_are_its_bytes(dry):
    x = torch.empty(1000, device="cuda")
    with dry.recording() as record:
        assert halve(x).shape == (500,)
    assert (record.launches, record.bytes) == (1, 6000)


def test_an_event_tells_the_line_of_the_package(dry):
    outline_of(torch.ones(3, 3, 3, dtype=torch.uint8, device="cuda"), 2)
    assert dry.record.waits
    assert all("deepedit/transforms/corrupt.py:" in str(each) for each in dry.record.waits)


def test_a_loss_gives_gradients_to_what_it_depends_on(dry):
    layer, other = torch.nn.Linear(3, 2).to("cuda"), torch.nn.Linear(3, 2).to("cuda")
    layer(torch.zeros(4, 3, device="cuda")).sum().backward()
    assert layer.weight.grad.shape == (2, 3)
    assert other.weight.grad is None


def test_torch_is_as_before_afterwards(dry_cuda):
    replaced = torch.Tensor.backward, torch.Generator, torch.tensor, torch.cuda.is_available, torch.nn.Module._apply
    with dry_cuda(), torch.inference_mode():
        # A network's operators are taken apart within the mode, which must not be set up anew for that.
        image = torch.zeros(1, 3, 8, 8, 8, device="cuda")
        torch.nn.functional.conv3d(image, torch.zeros(4, 3, 3, 3, 3, device="cuda"))
    assert (
        torch.Tensor.backward, torch.Generator, torch.tensor, torch.cuda.is_available, torch.nn.Module._apply,
    ) == replaced  # fmt: skip
