"""Networks as users write them: of modules or functions, in place or not, with shortcuts."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A residual block of functions, adding in place."""

    def __init__(self, num_in, num_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.down = None
        if stride != 1 or num_in != num_out:
            self.down = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )

    def forward(self, x):
        shortcut = x if self.down is None else self.down(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        x += shortcut
        return torch.relu_(x)


class OwnResNet(nn.Module):
    """A residual network with a stem that pools."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Block(8, 8, 1), nn.Sequential(Block(8, 16, 2), nn.Identity()))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = (x - self.mean) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
        x = self.blocks(self.pool(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        x = torch.flatten(x, 1)
        return self.fc(F.dropout(x, 0.5, self.training))


class PreActivation(nn.Module):
    """Norm and rectifier before each convolution; the sum is read twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding="same")
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, 1, 1, groups=g) for g in (2, 6))
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.head = nn.Linear(6, 4, bias=False)

    def forward(self, x):
        x = self.stem(1 - 2 * x)
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = torch.add(conv(norm(x).relu()), x)
        x = self.norms[2](x).clamp(min=0).view(x.size(0), 6, -1).mean(-1)
        return self.head(self.norm(x))


class Pooled(nn.Module):
    """Every kind of pooling, then a 1x1 convolution as the head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (3, 1), (2, 1), (1, 0))
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = F.avg_pool2d(self.conv(x), 3, 1, 1, count_include_pad=False)
        x = F.avg_pool2d(x, 3, 2, 1)
        x = F.adaptive_max_pool2d(x, (4, 8)) + F.adaptive_avg_pool2d(x, (4, 8))
        return self.head(F.avg_pool2d(x, x.shape[2:])).squeeze(-1).squeeze(-1)


class Dense(nn.Module):
    """A fully connected network on normalised pixels, with norms and a rectifier that is shared."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.layers = nn.Sequential(
            nn.Linear(3 * 16 * 16, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.3)
        )
        self.skip = nn.Linear(20, 20)
        self.out = nn.Linear(20, 7)

    def forward(self, x):
        x = self.layers(self.norm(x).reshape(-1, 3 * 16 * 16))
        return self.out(x + self.layers[2](self.skip(x))) * 2.0


NETWORKS = {c.__name__: c for c in (OwnResNet, PreActivation, Pooled, Dense)}
SHAPE = (3, 16, 16)


def made(kind, *, seed=0, density=1.0):
    """Return a network with statistics of its own and sparse weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind() if isinstance(kind, type) else kind
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "running_var" in name or ("norm" in name and name.endswith("weight")):
                    tensor.uniform_(0.5, 2)
                elif "running_mean" in name or name.endswith("bias"):
                    tensor.normal_(0, 0.3)
                elif tensor.dim() > 1 and tensor.shape[0] > 1:
                    tensor.mul_(torch.rand(tensor.shape) < density)
    return model


def images(num=3, shape=SHAPE, seed=1):
    """Return random images."""
    return torch.rand(num, *shape, generator=torch.Generator().manual_seed(seed))
