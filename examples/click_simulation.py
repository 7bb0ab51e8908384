"""Click simulation alone, in a training loop of one's own, with a network of one's own.

python examples/click_simulation.py
"""

import sys

import torch
from torch import Tensor, nn

from deepedit import Clicks, error_regions, render_guidance, sample_clicks

CLASSES, SHAPE, ROUNDS = 3, (20, 20, 20), 3


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images ``[B, 1, X, Y, Z]`` and class indices ``[B, X, Y, Z]``: a block of each class, which look the same."""
    label = torch.zeros(2, *SHAPE, dtype=torch.int64)
    for sample in label:
        for number in range(1, CLASSES):
            x, y, z = torch.randint(0, 12, (3,), generator=generator).tolist()
            sample[x : x + 9, y : y + 9, z : z + 9] = number
    return (label[:, None] > 0) + 0.3 * torch.randn(2, 1, *SHAPE, generator=generator), label


def main(steps: int = 40) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Conv3d(1 + CLASSES, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, CLASSES, 1)]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-2)
    for step in range(steps):
        image, label = batch(generator)
        clicks = Clicks.empty()
        wrong = []
        for _ in range(ROUNDS):
            guidance = render_guidance(clicks, SHAPE, CLASSES, batch_size=len(image), sigma=5)
            logits = network(torch.cat([image, guidance], dim=1))
            loss = nn.functional.cross_entropy(logits, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            prediction = logits.argmax(1)
            wrong.append((prediction != label).float().mean().item())
            # One click in the error region of every class and sample; those without errors get an invalid one.
            new = sample_clicks(error_regions(prediction, label, CLASSES), CLASSES, generator)
            clicks = Clicks.cat([clicks, new])
        if step % 10 == 0 or step == steps - 1:
            told = ", ".join(f"{share:.1%}" for share in wrong)
            print(f"step {step}: wrong voxels after {', '.join(map(str, range(ROUNDS)))} rounds of clicks: {told}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
