"""Marks of tests that need a GPU, and the devices for tests of what shall be the same on one."""

import pytest
import torch

NEEDS_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]
