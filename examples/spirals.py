"""A plain PyTorch training script that knows nothing of sweeps: a small network tells two spirals apart.

    python examples/spirals.py --learning-rate 0.01 --epochs 40

It takes its settings as options and prints one line of JSON an epoch, as many scripts do.
`examples/spirals.yaml` sweeps it as it is.
"""

import argparse
import json
import math
import os
import time

import torch
from torch import nn


def spirals(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two interleaved spirals of one and a half turns: points [count, 2], labels [count]."""
    label = torch.arange(count) % 2
    radius = torch.rand(count, generator=generator).sqrt()
    angle = 3 * math.pi * radius + math.pi * label
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)
    return points + 0.02 * torch.randn(count, 2, generator=generator), label


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SWEEP_SEED", 0)))
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    points, labels = spirals(1024, generator)
    test_points, test_labels = spirals(4096, generator)
    model = nn.Sequential(
        nn.Linear(2, args.hidden),
        nn.Tanh(),
        nn.Linear(args.hidden, args.hidden),
        nn.Tanh(),
        nn.Linear(args.hidden, 2),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)

    started = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        for rows in torch.randperm(len(points), generator=generator).split(args.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(points[rows]), labels[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(test_points).argmax(1) == test_labels).double().mean().item()
        seconds = time.perf_counter() - started
        print(json.dumps({"epoch": epoch, "accuracy": accuracy, "seconds": round(seconds, 4)}), flush=True)


if __name__ == "__main__":
    main()
