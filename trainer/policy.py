"""The network: hidden layers with ReLU, memory where wanted, an action and a value head; in plain torch.

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

from trainer import recurrence
from trainer.settings import PolicySettings

FORBIDDEN = -1e9  # the logit of an action that a mask forbids: its probability is 0


class Policy(nn.Module):
    """Observations and what was remembered to logits [rows, sum(action_sizes)] and values [rows].

    `memory` floats are the state that an agent carries from step to step: 0 without recurrence.
    """

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
        self.rnn, self.bins, self.value_limit = settings.rnn, settings.value_bins, settings.value_limit
        self.memory = recurrence.STATES[settings.rnn] * settings.hidden
        logits, outputs = sum(self.action_sizes), max(1, self.bins)
        inputs = [obs_size] + [settings.hidden] * (settings.layers - 1)
        shapes: list[tuple[int, ...]] = [(n, settings.hidden) for n in inputs]
        shapes += [(settings.hidden,)] * settings.layers
        shapes += recurrence.shapes(settings.rnn, settings.hidden)
        shapes += [(logits, settings.hidden), (outputs, settings.hidden), (logits + outputs,)]
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
        self.gates = list(self.parts[2 * layers : -3])  # of the recurrent layer: its matrices, then its bias
        self.action_head, self.value_head, self.head_bias = self.parts[-3:]
        for weight in self.weights:
            _orthogonal(weight, math.sqrt(2), generator)
        for weight in self.gates[:-1]:
            for gate in weight.split(settings.hidden, 1):
                _orthogonal(gate, 1.0, generator)
        if self.gates:
            with torch.no_grad():
                recurrence.first_bias(settings.rnn, self.gates[-1])
        _orthogonal(self.action_head, settings.action_gain, generator)
        # A histogram begins nearly flat: its mean is then nearly 0.
        _orthogonal(self.value_head, 0.01 if self.bins else 1.0, generator)

    def unroll(self, obs: Tensor, state: Tensor, fresh: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the heads read [steps, rows, units], and the states after each step [steps, rows, memory].

        `obs` [steps, rows, obs_size] float, `state` [rows, memory] before the first step; where `fresh`
        [steps, rows] is true the state is cleared before the step.
        """
        hidden = obs
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        if self.rnn == "none":
            return hidden, state.expand(len(obs), -1, -1)
        return recurrence.REFERENCES[self.rnn](hidden, state, fresh, self.gates)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Heads: logits of all action components beside each other, and what `value` reads.

        `hidden` [rows, units]; `mask` [rows, logits] is 0 where an action is forbidden.
        """
        out = hidden @ torch.cat([self.action_head, self.value_head]).t() + self.head_bias
        logits, value_out = out.split([sum(self.action_sizes), max(1, self.bins)], 1)
        return logits if mask is None else logits.masked_fill(mask == 0, FORBIDDEN), value_out

    def value(self, value_out: Tensor) -> Tensor:
        """Values [rows] from the value head's outputs: itself, or the mean of a histogram's bins."""
        if not self.bins:
            return value_out[:, 0]
        return value_out.softmax(1) @ bin_centers(self.bins, self.value_limit, value_out.device)

    def act(
        self, obs: Tensor, uniform: Tensor | None, state: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions [rows, components] int32, their log-probability [rows], values [rows], the next state.

        Drawn by inverting the distribution function at `uniform` in [0, 1) [rows, components];
        the most probable actions where `uniform` is None.
        """
        if state is None:
            state = obs.new_zeros(len(obs), self.memory)
        hidden, states = self.unroll(obs[None], state)
        logits, value_out = self(hidden[0], mask)
        actions, logprob = [], torch.zeros_like(logits[:, 0])
        for i, part in enumerate(logits.split(self.action_sizes, 1)):
            logprobs = part.log_softmax(1)
            if uniform is None:
                action = part.argmax(1)
            else:
                probs = logprobs.exp()
                below = torch.cat([torch.zeros_like(probs[:, :1]), probs.cumsum(1)[:, :-1]], 1)
                places = torch.arange(probs.shape[1], device=probs.device)
                action = (places * ((uniform[:, i : i + 1] >= below) & (probs > 0))).amax(1)
            logprob = logprob + logprobs.gather(1, action[:, None])[:, 0]
            actions.append(action.int())
        return torch.stack(actions, 1), logprob, self.value(value_out), states[0]

    def logprob_entropy(self, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of `actions` [rows, components] and entropy, each [rows]."""
        logprob, entropy = torch.zeros_like(logits[:, 0]), torch.zeros_like(logits[:, 0])
        for i, part in enumerate(logits.split(self.action_sizes, 1)):
            logprobs = part.log_softmax(1)
            logprob = logprob + logprobs.gather(1, actions[:, i : i + 1].long())[:, 0]
            entropy = entropy - (logprobs.exp() * logprobs).sum(1)
        return logprob, entropy


def bin_centers(bins: int, limit: float, device: torch.device) -> Tensor:
    """Middles [bins] of equal bins that divide [-limit, limit]."""
    return (torch.arange(bins, device=device) + 0.5) * (2 * limit / bins) - limit


def hl_gauss(target: Tensor, bins: int, limit: float) -> Tensor:
    """Shares [rows, bins] of a Gaussian around `target` [rows] in equal bins that divide [-limit, limit].

    Its deviation is 0.75 of a bin; targets outside are taken for the ends (Farebrother et al. 2024,
    "Stop regressing", equation 7).
    """
    width = 2 * limit / bins
    edges = torch.arange(bins + 1, device=target.device) * width - limit
    below = torch.erf((edges - target.clamp(-limit, limit)[:, None]) / (math.sqrt(2) * 0.75 * width))
    return below.diff() / (below[:, -1:] - below[:, :1])


def _orthogonal(matrix: Tensor, gain: float, generator: torch.Generator) -> None:
    # Drawn on the CPU whatever the device: a seed means one first policy.
    start = torch.empty(matrix.shape)
    with torch.no_grad():
        matrix.copy_(nn.init.orthogonal_(start, gain, generator=generator))
