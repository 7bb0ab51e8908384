"""How much a refiner adds to the answers of a model.

    python -m benchmarks.refined_answers --model RUN/model.pt --input DATASET

A refiner learns from clicks on cases that the model was trained on. Then the validation cases are clicked twice, with
the answers of the network alone, and refined. Printed are mean Dice after each number of clicks, and its gain.
"""

import time
from dataclasses import replace

from benchmarks.options import add_shared, parser
from deepedit.defaults import MAX_CLICKS
from deepedit.evaluation import evaluate_dataset, summarise
from deepedit.io.msd import find_dataset
from deepedit.network.checkpoint import load_model
from deepedit.network.inputs import pick_device
from deepedit.training.config import TrainingConfig
from deepedit.training.refining import learn_refiner
from deepedit_cli.options import positive_int


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", "--input")
    options.add_argument(
        "--cases",
        type=positive_int,
        default=TrainingConfig.refiner_cases,
        metavar="N",
        help="training cases to click on (default: %(default)s)",
    )
    add_shared(options, "--seed")
    add_shared(options, "--max-clicks", default=MAX_CLICKS, help="clicks for each case (default: %(default)s)")
    add_shared(options, "--device")
    arguments = options.parse_args()
    model = replace(load_model(arguments.model, pick_device(arguments.device)), refiner=None)
    by_name = {case.name: case for case in find_dataset(arguments.input).cases}
    held_back = [by_name[name] for name in model.validation_cases]
    config = TrainingConfig(refiner_cases=arguments.cases, max_clicks=arguments.max_clicks, seed=arguments.seed)
    start = time.perf_counter()
    refiner = learn_refiner(model, [by_name[name] for name in model.training_cases], config, say=print)
    print(f"that took {time.perf_counter() - start:.0f} s", flush=True)
    curves = []
    for name, answering in (("network alone", model), ("refined", replace(model, refiner=refiner))):
        curves.append(summarise(evaluate_dataset(answering, held_back, arguments.max_clicks)).mean.dice)
        print(f"{name:<16}" + "".join(f"{value:8.4f}" for value in curves[-1]), flush=True)
    gains = [refined - plain for plain, refined in zip(*curves, strict=True)]
    print(f"{'gain':<16}" + "".join(f"{gain:+8.4f}" for gain in gains))


if __name__ == "__main__":
    main()
