"""What each rule of `deepedit.inference.merge` is worth: Dice against clicks without a rule, or with another constant.

    python -m benchmarks.merge_rules --model run/a.pt --model run/b.pt --input DATASET [--corrupt 0.93,0.96]

The models, best trained with different seeds, share their validation cases. Each line is the mean over models and
cases; the spread is that of the models' means over the clicks from one on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.options import add_shared, parser
from deepedit.defaults import MAX_CLICKS
from deepedit.evaluation import Corruption, evaluate_dataset
from deepedit.io.msd import Case, find_dataset
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import pick_device
from deepedit.plan import MergePolicy
from deepedit_cli.options import SHARED

REPORTED = (0, 1, 2, 3, 5, 10)


def variants(policy: MergePolicy) -> Iterator[tuple[str, MergePolicy, bool]]:
    """Name, policy, and whether with test-time augmentation; each differs from the policy in one thing."""
    yield "as it is", policy, False
    yield "test-time augmentation", policy, True
    yield "no enforcement", replace(policy, enforce=False), False
    yield "an answer counts everywhere", replace(policy, reach=1e6), False
    for name, factor in (("reach", 0.75), ("reach", 1.5), ("softness", 0.5), ("softness", 2)):
        value = factor * getattr(policy, name)
        yield f"{name} {value:g}", replace(policy, **{name: value}), False
    yield "near only, whatever it agrees with", replace(policy, agreement=(-2.0, -1.0)), False


def curve(model: Model, cases: Sequence[Case], start: Corruption | None, clicks: int, tta: bool) -> np.ndarray:
    """``[clicks + 1]``: mean Dice over cases and labels after each number of clicks."""
    rows = evaluate_dataset(model, cases, clicks, start, tta=tta)
    return np.array([np.mean([row.dice for row in rows if row.clicks == number]) for number in range(clicks + 1)])


def corruption(text: str) -> Corruption:
    lowest, highest = map(float, text.split(","))
    return Corruption(lowest, highest)


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", action="append", help=f"{SHARED['--model']['help']}; may be given several times")
    add_shared(options, "--input")
    options.add_argument(
        "--corrupt", type=corruption, metavar="LOW,HIGH", help="correct the truth with errors, at such a mean Dice"
    )
    add_shared(options, "--max-clicks", default=MAX_CLICKS, help="clicks for each case (default: %(default)s)")
    add_shared(options, "--device")
    arguments = options.parse_args()
    by_name = {case.name: case for case in find_dataset(arguments.input).cases}
    models = [load_model(path, pick_device(arguments.device)) for path in arguments.model]
    cases = [by_name[name] for name in models[0].validation_cases]
    reported = [number for number in REPORTED if number <= arguments.max_clicks]
    print(f"{'rule':<40}" + "".join(f"{number:>8}" for number in reported) + "    mean from 1 on (spread)")
    for name, policy, tta in variants(models[0].plan.merge):
        curves = []
        for model in models:
            other = replace(model, plan=replace(model.plan, merge=policy))
            curves.append(curve(other, cases, arguments.corrupt, arguments.max_clicks, tta))
        mean, means = np.mean(curves, 0), [each[1:].mean() for each in curves]
        shown = "".join(f"{mean[number]:8.4f}" for number in reported)
        print(f"{name:<40}{shown}    {np.mean(means):.4f} ({min(means):.4f}-{max(means):.4f})", flush=True)


if __name__ == "__main__":
    main()
