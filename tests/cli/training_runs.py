"""The runs of deepedit-train that tests begin."""

QUICK = ("--epochs", "1", "--max-clicks", "0", "--limit", "1")
"""Of a run that is over at once."""


def arguments(dataset, run, *more):
    return [
        "--input",
        str(dataset),
        "--output",
        str(run),
        "--epochs",
        "2",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        *more,
    ]
