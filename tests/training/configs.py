"""What a run's config.json told before it had all settings in one place, and defaults that change under a run."""

import inspect
import json

from deepedit.clicks import Annotator
from deepedit.training.config import TrainingConfig
from deepedit.transforms.augmentation import Augmentation

ARGUMENTS = json.loads("""{
 "input": "data", "output": "run", "resume": false, "config": null, "init_weights": null,
 "labels": "spleen=2,liver=1", "affine": null, "units": null, "split": 0.9, "split_seed": 0, "spacing": [2.0, 2.0, 3.0],
 "patch_size": null, "limit": null, "cache_dir": "elsewhere", "workers": 3, "network": "light", "epochs": 2,
 "max_minutes": null, "batch_size": 2, "accumulate": null, "checkpointing": false, "eager": false,
 "learning_rate": null, "click_probability": null, "max_clicks": null, "seed": 0, "import_monai": null,
 "channel_order": null, "strides": null, "grid": null, "widen": false, "export": null, "device": "cpu", "amp": "auto",
 "overwrite": false}""")

TRAINING = json.loads("""{
 "epochs": 2, "max_minutes": null, "batch_size": 2, "accumulate": 1, "checkpointing": false, "learning_rate": 0.02,
 "warmup": 0.02, "weight_decay": 3e-05, "small_patches": 0.7, "click_probability": 0.75, "clicks_from": 0.1,
 "max_clicks": 10, "edit_probability": 0.25, "redraw_probability": 0.6, "click_loss": 1.0, "click_loss_sigma": 3.0,
 "click_sigma": 2.0, "ema_decay": 0.995, "amp": "auto", "record_passes": true, "validations": 5, "limit": null,
 "seed": 0,
 "annotator": {"deepest": 0.85, "centre": 0.8, "jitter": 1, "neighbour": 0.05, "redundant": 0.05},
 "augmentation": {"spatial_probability": 0.7, "rotation_probability": 0.2, "rotation": 20.0, "scaling": [0.83, 1.2],
  "shift": 0.06, "flip_axes": [], "intensity_probability": 0.3, "brightness": 0.3, "contrast": [0.7, 1.4],
  "gamma": [0.7, 1.5], "noise": 0.15}}""")


def changed_defaults(monkeypatch):
    """Defaults as another version might have them."""
    others = {
        TrainingConfig: {"ema_decay": 0.5, "learning_rate": 1e-4, "small_patches": 0.0},
        Annotator: {"deepest": 0.5},
        Augmentation: {"noise": 0.5},
    }
    for kind, values in others.items():
        parameters = [each for each in inspect.signature(kind).parameters.values() if each.default is not each.empty]
        defaults = tuple(values.get(each.name, each.default) for each in parameters)
        monkeypatch.setattr(kind.__init__, "__defaults__", defaults)
