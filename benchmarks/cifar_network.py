"""The network that evaluations are timed on: four convolutions, trained on CIFAR-10 in a minute.

Widths 16, 32, 64 and 64 with batch normalisation, 5.2 million multiplications an image. It is
trained against single steps of 4/255, which leaves some images robust and most not, as evaluations
find it. Weights are kept in `build/`, which git ignores. Not a benchmark itself.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from wiry.attacks.fgsm import FGSM
from wiry.core.rng import stream
from wiry.data.base import build_dataset

KEPT = Path(__file__).parents[1] / "build" / "benchmarks" / "cifar-network.pt"
NUM_IMAGES, EPOCHS, BATCH, EPS = 20_000, 4, 128, 4 / 255


def network() -> nn.Sequential:
    """Return the network, not trained, with weights of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for num_in, num_out, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)):
            layers += [
                nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(num_out),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, 10))


def trained_network(num_images: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the trained network in eval mode, and the first test images with their labels."""
    data = build_dataset({"name": "cifar10", "augment": "none"})
    model = network()
    if KEPT.is_file():
        model.load_state_dict(torch.load(KEPT, weights_only=True))
    else:
        train(model, *data.split("train"))
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), KEPT)
    x, y = data.split("test")
    return model.eval(), x[:num_images], y[:num_images]


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Train against steps of FGSM from a random point (Wong et al. 2020)."""
    x, y = x[:NUM_IMAGES], y[:NUM_IMAGES]
    attack, draws = FGSM(EPS, random_start=True), stream(0, "benchmark", "attack")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = EPOCHS * (NUM_IMAGES // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=stream(0, "benchmark", epoch))
        for part in order.split(BATCH):
            adversarial = attack(model, x[part], y[part], draws)
            model.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(adversarial), y[part]).backward()
            optimizer.step()
            schedule.step()
    print(f"trained for {time.perf_counter() - began:.0f} s; weights in {KEPT}")
