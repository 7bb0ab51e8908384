import argparse

import pytest

from deepedit_cli import options


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (options.positive_int, "12", 12),
        (options.count, "0", 0),
        (options.positive, "1e-4", 1e-4),
        (options.share, "0.9", 0.9),
        (options.share, "1", 1.0),
        (options.spacing, "1.5,1.5,3", (1.5, 1.5, 3.0)),
        (options.spacing, " 2 ", (2.0, 2.0, 2.0)),
        (options.int_triple, "64, 64,32", (64, 64, 32)),
        (options.device, "auto", "auto"),
        (options.device, "cpu", "cpu"),
    ],
)
def test_what_arguments_mean(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (options.positive_int, "0"),
        (options.positive_int, "1.5"),
        (options.positive_int, "9" * 400),
        (options.count, "-1"),
        (options.positive, "0"),
        (options.positive, "nan"),
        (options.positive, "inf"),
        (options.positive, ""),
        (options.share, "1.1"),
        (options.share, "-0.1"),
        (options.spacing, "1,2"),
        (options.spacing, "1,0,2"),
        (options.spacing, "1,2,"),
        (options.spacing, "1e-9"),
        (options.spacing, "1e9"),
        (options.int_triple, "64,64.5,64"),
        (options.device, "cuda:97"),
        (options.device, "abacus"),
    ],
)
def test_what_arguments_cannot_be(read, text):
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)
