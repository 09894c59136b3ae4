"""The network: hidden layers with ReLU, an action head and a value head; its plain torch form.

All parameters are views of one flat tensor and all gradients of another, so that a norm, a clip or
a copy of the whole network is one operation. Hidden weights are stored [inputs, units], the layout
in which both the forward product and the weights' gradient are fastest on a CPU; the heads lie
beneath each other in one block [logits + 1, units], as the kernels in network.c read them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.settings import PolicySettings


class Policy(nn.Module):
    """Observations [rows, obs_size] to logits [rows, sum(action_sizes)] and values [rows]."""

    def __init__(
        self,
        obs_size: int,
        action_sizes: Sequence[int],
        settings: PolicySettings,
        generator: torch.Generator,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.obs_size, self.action_sizes, self.hidden = obs_size, tuple(action_sizes), settings.hidden
        logits = sum(self.action_sizes)
        inputs = [obs_size] + [settings.hidden] * (settings.layers - 1)
        shapes: list[tuple[int, ...]] = [(n, settings.hidden) for n in inputs]
        shapes += [(settings.hidden,)] * settings.layers
        shapes += [(logits, settings.hidden), (1, settings.hidden), (logits + 1,)]
        sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(sizes), device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        views = [view.view(shape) for view, shape in zip(self.flat.split(sizes), shapes, strict=True)]
        grads = [view.view(shape) for view, shape in zip(self.flat_grad.split(sizes), shapes, strict=True)]
        self.parts = nn.ParameterList(nn.Parameter(view) for view in views)
        for part, grad in zip(self.parts, grads, strict=True):
            part.grad = grad
        layers = settings.layers
        self.weights, self.biases = list(self.parts[:layers]), list(self.parts[layers : 2 * layers])
        self.action_head, self.value_head, self.head_bias = self.parts[2 * layers :]
        for weight in self.weights:
            _orthogonal(weight, math.sqrt(2), generator)
        _orthogonal(self.action_head, settings.action_gain, generator)
        _orthogonal(self.value_head, 1.0, generator)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of all action components beneath each other, and values."""
        hidden = obs
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        out = hidden @ torch.cat([self.action_head, self.value_head]).t() + self.head_bias
        return out[:, :-1], out[:, -1]

    def act(self, obs: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [rows, components] int32, their log-probability [rows], values [rows].

        Drawn by inverting the distribution function at `uniform` in [0, 1) [rows, components];
        the most probable actions where `uniform` is None.
        """
        logits, values = self(obs)
        actions, logprob = [], torch.zeros_like(values)
        for i, part in enumerate(logits.split(self.action_sizes, 1)):
            logprobs = part.log_softmax(1)
            if uniform is None:
                action = part.argmax(1)
            else:
                below = logprobs.exp().cumsum(1)[:, :-1]
                action = (uniform[:, i : i + 1] >= below).sum(1)
            logprob = logprob + logprobs.gather(1, action[:, None])[:, 0]
            actions.append(action.int())
        return torch.stack(actions, 1), logprob, values

    def logprob_entropy(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability of `actions` [rows, components], entropy and value, each [rows]."""
        logits, values = self(obs)
        logprob, entropy = torch.zeros_like(values), torch.zeros_like(values)
        for i, part in enumerate(logits.split(self.action_sizes, 1)):
            logprobs = part.log_softmax(1)
            logprob = logprob + logprobs.gather(1, actions[:, i : i + 1].long())[:, 0]
            entropy = entropy - (logprobs.exp() * logprobs).sum(1)
        return logprob, entropy, values


def _orthogonal(matrix: Tensor, gain: float, generator: torch.Generator) -> None:
    # Drawn on the CPU whatever the device: a seed means one first policy.
    start = torch.empty(matrix.shape)
    with torch.no_grad():
        matrix.copy_(nn.init.orthogonal_(start, gain, generator=generator))
