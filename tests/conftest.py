"""Settings of all tests."""

import os

import torch

if not torch.cuda.is_available():
    # Read when Triton is imported: without a GPU its kernels run in its interpreter.
    os.environ["TRITON_INTERPRET"] = "1"
