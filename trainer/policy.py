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

from ocean import Spec
from trainer import recurrence
from trainer.settings import PolicySettings, check_serves

GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)  # nats, of deviation 1
# Below this share of the greatest entropy, or below this deviation, no other action is ever tried again.
LEAST_SHARE, LEAST_SD = 1e-5, 1e-4
FORBIDDEN = -1e9  # the logit of an action that a mask forbids: its probability is 0


class Policy(nn.Module):
    """Observations and what was remembered to outputs [rows, logits] for actions and values [rows].

    Discrete actions: the outputs are `sum(action_sizes)` logits. Continuous ones, `action_dim` floats:
    they are the means of Gaussians, whose deviations exp(log_sd) are parameters that no observation
    changes; a float's unit is half of its range, around the middle (scales.ActionScale).

    `memory` floats are the state that an agent carries from step to step: 0 without recurrence.
    `obs_range` is (lowest, highest) of whole-numbered observations, for the encoders that need it.
    """

    def __init__(
        self,
        obs_size: int,
        action_sizes: Sequence[int],
        settings: PolicySettings,
        generator: torch.Generator,
        device: torch.device | None = None,
        action_dim: int | None = None,
        obs_range: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.action_sizes, self.hidden = tuple(action_sizes), settings.hidden
        self.continuous = action_dim is not None
        self.components = len(self.action_sizes) if action_dim is None else action_dim
        self.logits = sum(self.action_sizes) if action_dim is None else action_dim
        self.rnn, self.bins, self.value_limit = settings.rnn, settings.value_bins, settings.value_limit
        self.memory = recurrence.STATES[settings.rnn] * settings.hidden
        self.encoder, self.lowest, values = settings.encoder, obs_range[0], obs_range[1] - obs_range[0] + 1
        width = {"none": 1, "onehot": values, "embedding": settings.embedding}[settings.encoder]
        self.obs_size = obs_size * width  # numbers that the first layer reads
        logits, outputs = self.logits, max(1, self.bins)
        inputs = [self.obs_size] + [settings.hidden] * (settings.layers - 1)
        shapes: list[tuple[int, ...]] = [(n, settings.hidden) for n in inputs]
        shapes += [(settings.hidden,)] * settings.layers
        shapes += recurrence.shapes(settings.rnn, settings.hidden)
        if settings.encoder == "embedding":
            shapes.insert(0, (values, width))
        shapes += [(logits, settings.hidden), (outputs, settings.hidden), (logits + outputs,)]
        shapes += [(logits,)] if self.continuous else []
        sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(sizes), device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        views = [view.view(shape) for view, shape in zip(self.flat.split(sizes), shapes, strict=True)]
        grads = [view.view(shape) for view, shape in zip(self.flat_grad.split(sizes), shapes, strict=True)]
        self.parts = nn.ParameterList(nn.Parameter(view) for view in views)
        for part, grad in zip(self.parts, grads, strict=True):
            part.grad = grad
        parts, layers = list(self.parts), settings.layers
        self.log_sd = parts.pop() if self.continuous else None  # [logits], of continuous actions
        self.table: Tensor | None = None  # [values, width]: a row for every value that an encoder tells apart
        if self.encoder == "embedding":
            self.table = parts.pop(0)
        elif self.encoder == "onehot":
            self.table = torch.eye(values, device=device)
        self.weights, self.biases = parts[:layers], parts[layers : 2 * layers]
        self.gates = parts[2 * layers : -3]  # of the recurrent layer: its matrices, then its bias
        self.action_head, self.value_head, self.head_bias = parts[-3:]
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
        with torch.no_grad():
            if self.log_sd is not None:
                self.log_sd.fill_(math.log(settings.action_sd))
            if self.encoder == "embedding":
                self.parts[0].copy_(torch.empty(values, width).normal_(generator=generator))

    @staticmethod
    def of(
        spec: Spec, settings: PolicySettings, generator: torch.Generator, device: torch.device | None = None
    ) -> Policy:
        """A new policy for an environment. SettingsError where the two do not fit each other."""
        check_serves(spec, settings)
        obs_range = (0, 1) if settings.encoder == "none" else (int(spec.obs_range[0]), int(spec.obs_range[1]))
        size = math.prod(spec.obs_shape)
        return Policy(size, spec.action_sizes, settings, generator, device, spec.action_dim, obs_range)

    @property
    def least_entropy(self) -> float:
        """Entropy (nats) of a policy that has as good as stopped trying anything else."""
        if self.continuous:
            return self.components * (math.log(LEAST_SD) + GAUSSIAN_ENTROPY)
        return LEAST_SHARE * sum(math.log(size) for size in self.action_sizes)

    def places(self, obs: Tensor) -> Tensor:
        """For an encoder: whole-numbered observations as rows of its table, flat. What lies outside of the
        declared range is taken for its nearer end."""
        assert self.table is not None
        return (obs.reshape(-1).long() - self.lowest).clamp_(0, len(self.table) - 1)

    def encode(self, obs: Tensor) -> Tensor:
        """Observations [..., n] of any type as floats [..., obs_size]."""
        if self.table is None:
            return obs.float()
        return nn.functional.embedding(self.places(obs), self.table).view(*obs.shape[:-1], self.obs_size)

    def unroll(self, obs: Tensor, state: Tensor, fresh: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the heads read [steps, rows, units], and the states after each step [steps, rows, memory].

        `obs` [steps, rows, numbers] of any type, `state` [rows, memory] before the first step; where `fresh`
        [steps, rows] is true the state is cleared before the step.
        """
        hidden = self.encode(obs)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        if self.rnn == "none":
            return hidden, state.expand(len(obs), -1, -1)
        return recurrence.REFERENCES[self.rnn](hidden, state, fresh, self.gates)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Heads: logits (means) of all action components beside each other, and what `value` reads.

        `hidden` [rows, units]; `mask` [rows, logits] is 0 where an action is forbidden.
        """
        out = hidden @ torch.cat([self.action_head, self.value_head]).t() + self.head_bias
        logits, value_out = out.split([self.logits, max(1, self.bins)], 1)
        return logits if mask is None else logits.masked_fill(mask == 0, FORBIDDEN), value_out

    def value(self, value_out: Tensor) -> Tensor:
        """Values [rows] from the value head's outputs: itself, or the mean of a histogram's bins."""
        if not self.bins:
            return value_out[:, 0]
        return value_out.softmax(1) @ bin_centers(self.bins, self.value_limit, value_out.device)

    def act(
        self, obs: Tensor, draw: Tensor | None, state: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions [rows, components], their log-probability [rows], values [rows], the next state.

        `draw` [rows, components] is what `noise` gives. Discrete actions (int32) come of it by inverting the
        distribution function, continuous ones (float32) are mean + deviation * draw. Where it is None:
        the most probable actions, or the means.
        """
        if state is None:
            state = torch.zeros(len(obs), self.memory, device=obs.device)
        hidden, states = self.unroll(obs[None], state)
        logits, value_out = self(hidden[0], mask)
        if self.log_sd is not None:
            action = logits if draw is None else logits + self.log_sd.exp() * draw
            return action, self.logprob_entropy(logits, action)[0], self.value(value_out), states[0]
        actions, logprob = [], torch.zeros_like(logits[:, 0])
        for i, part in enumerate(logits.split(self.action_sizes, 1)):
            logprobs = part.log_softmax(1)
            if draw is None:
                action = part.argmax(1)
            else:
                probs = logprobs.exp()
                below = torch.cat([torch.zeros_like(probs[:, :1]), probs.cumsum(1)[:, :-1]], 1)
                places = torch.arange(probs.shape[1], device=probs.device)
                action = (places * ((draw[:, i : i + 1] >= below) & (probs > 0))).amax(1)
            logprob = logprob + logprobs.gather(1, action[:, None])[:, 0]
            actions.append(action.int())
        return torch.stack(actions, 1), logprob, self.value(value_out), states[0]

    def noise(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill `out` with what `act` draws by: uniform in [0, 1), or normal for continuous actions."""
        random = torch.randn if self.continuous else torch.rand
        return random(out.shape, generator=generator, out=out)

    def logprob_entropy(self, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability (density) of `actions` [rows, components] and entropy in nats, each [rows]."""
        if self.log_sd is not None:
            off = (actions - logits) * (-self.log_sd).exp()  # in deviations
            logprob = -(0.5 * off**2 + self.log_sd + (GAUSSIAN_ENTROPY - 0.5)).sum(1)
            return logprob, (self.log_sd + GAUSSIAN_ENTROPY).sum().expand(len(logits))
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
