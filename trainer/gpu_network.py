"""The network as a GPU runs it: matrix products by torch, everything else by the kernels of `cuda/`.

No autograd, no number that the host waits for, no shape that depends on data: all of it can be captured
in a CUDA graph. On the processor the kernels are emulated (trainer/gpu.py), for tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer import gpu
from trainer.buffer import Buffer
from trainer.network import LossSums, Minibatch, least_deviation, places
from trainer.policy import Policy
from trainer.settings import TrainSettings


class GpuNetwork:
    """As network.TorchNetwork, for policies without recurrence or with minGRU.

    An embedding's gradients are added in any order, so that on a GPU their last bits differ from run to run.

    With `bf16` products are of bfloat16 and what passes between layers is; weights, heads, gradients and
    the recurrent state stay float32. `weights_changed` must then follow every change of the weights.
    """

    def __init__(self, policy: Policy, bf16: bool = False) -> None:
        assert policy.rnn in ("none", "mingru"), "a GPU's kernels know no other recurrence"
        self.policy, device = policy, policy.flat.device
        self._ppo, self._recurrence = gpu.load("ppo.cu", device), gpu.load("recurrence.cu", device)
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._copy = policy.flat.to(self._dtype) if bf16 else policy.flat  # what products read
        offset = {id(part): part.storage_offset() for part in policy.parts}

        def view(part: Tensor, flat: Tensor) -> Tensor:
            start = offset[id(part)]
            return flat[start : start + part.numel()].view(part.shape)

        self._weights = [view(weight, self._copy) for weight in policy.weights]
        self._biases = [view(bias, self._copy) for bias in policy.biases]
        self._grads = [view(part, policy.flat_grad) for part in (*policy.weights, *policy.biases)]
        if policy.gates:
            weight, bias = policy.gates
            self._gate_weight, self._gate_bias = view(weight, self._copy), view(bias, policy.flat)
            self._gate_grads = [view(part, policy.flat_grad) for part in policy.gates]
        # The heads lie beneath each other: one product for both.
        start, outputs = offset[id(policy.action_head)], policy.head_bias.numel()
        end = start + outputs * policy.hidden
        self._head, self._head_grad = (
            flat[start:end].view(outputs, -1) for flat in (policy.flat, policy.flat_grad)
        )
        self._head_bias, self._head_bias_grad = (
            view(policy.head_bias, flat) for flat in (policy.flat, policy.flat_grad)
        )
        self._sizes = torch.tensor(policy.action_sizes, dtype=torch.int32, device=device)
        log_sd = None if policy.log_sd is None else view(policy.log_sd, policy.flat)
        self._sd_grad = None if policy.log_sd is None else view(policy.log_sd, policy.flat_grad)
        shape = (policy.components, policy.logits, policy.bins)
        self._heads = (*shape, self._sizes, log_sd, float(policy.value_limit))
        self._table, self._table_grad = policy.table, None
        if policy.table is not None and policy.encoder == "embedding":
            self._table, self._table_grad = (
                view(policy.table, flat) for flat in (self._copy, policy.flat_grad)
            )
        elif policy.table is not None:
            self._table = policy.table.to(self._dtype)

    def weights_changed(self) -> None:
        """Copy the float32 weights for the products of bfloat16."""
        if self._copy is not self.policy.flat:
            self._copy.copy_(self.policy.flat)

    @torch.no_grad()
    def act(
        self,
        obs: Tensor,
        draw: Tensor | None,
        actions: Tensor,
        logprobs: Tensor,
        values: Tensor,
        state: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        """Fill actions [rows, components], logprobs and values [rows]; see Policy.act.

        `state` [rows, memory] moves on by a step; `mask` [rows, logits] is 0 for forbidden actions.
        """
        out = self._outputs(obs, state)
        self._ppo.sample(len(out), *self._heads, out, draw, mask, actions, logprobs, values)

    @torch.no_grad()
    def values(self, obs: Tensor, values: Tensor, state: Tensor) -> None:
        """Fill values [rows]; the state stays."""
        out = self._outputs(obs, state.clone() if self.policy.gates else state)
        self._ppo.sample(len(out), *self._heads, out, None, None, None, None, values)

    def _outputs(self, obs: Tensor, state: Tensor) -> Tensor:
        """What the heads give [rows, outputs], float32; the state moves on."""
        hidden = self._layers(self._read(obs.flatten(1))[0])[-1]
        if self.policy.gates:
            hidden, _ = self._remember(hidden, 1, state, None, state)
        return torch.addmm(self._head_bias, hidden.float(), self._head.t())

    def _read(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Observations [rows, numbers] as the first layer takes them, and the encoder's places of them."""
        if self._table is None:
            return obs.to(self._dtype), None
        places = self.policy.places(obs)
        return self._table[places].view(len(obs), -1), places

    def _layers(self, x: Tensor) -> list[Tensor]:
        """The input and what each hidden layer gives."""
        given = [x]
        for weight, bias in zip(self._weights, self._biases, strict=True):
            given.append(torch.addmm(bias, given[-1], weight).relu_())
        return given

    def _remember(
        self, x: Tensor, steps: int, state: Tensor, fresh: Tensor | None, states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs of the minGRU [steps * rows, units], and its gates; `states` is filled."""
        gates, read = torch.mm(x, self._gate_weight).float(), x.float()
        out = torch.empty_like(read)
        size = (steps, len(x) // steps, self.policy.hidden)
        self._recurrence.mingru_forward(*size, read, gates, self._gate_bias, state, fresh, states, out)
        return out, gates

    def gradients(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: float) -> LossSums:
        """Add d loss / d parameters to the policy's gradients; write back ratios and values."""
        coef = torch.tensor([ent_coef], device=buffer.obs.device)
        return LossSums(*self.accumulate(batch, buffer, train, coef).tolist())

    @torch.no_grad()
    def accumulate(self, batch: Minibatch, buffer: Buffer, train: TrainSettings, ent_coef: Tensor) -> Tensor:
        """`gradients` that waits for nothing: `ent_coef` [1] and what it gives, the fields of LossSums,
        stay on the GPU."""
        policy, segments = self.policy, batch.segments
        horizon, count = buffer.horizon, len(segments)
        rows = horizon * count
        obs = buffer.flat_obs[:rows] if batch.whole else buffer.flat_obs[places(buffer, segments)]
        x, encoded = self._read(obs)
        layers = self._layers(x)
        top = layers[-1]
        if policy.gates:
            state, fresh = buffer.states[0, segments], buffer.fresh(segments)[:-1].contiguous()
            states = torch.empty(rows, policy.hidden, device=obs.device)
            top, gates = self._remember(layers[-1], horizon, state, fresh, states)
        hidden = top.float()
        out = torch.addmm(self._head_bias, hidden, self._head.t())
        moments = None
        if train.normalize_advantages:
            chosen = buffer.advantages if batch.whole else buffer.advantages[:, segments]
            moments = torch.stack(torch.std_mean(chosen, correction=0))
            moments[:1].clamp_(min=least_deviation(train))
        terms = torch.empty(5, rows, device=obs.device)
        sd_slopes = torch.empty(policy.components, rows, device=obs.device) if policy.continuous else None
        self._ppo.loss(
            *(buffer.columns, count, horizon, *self._heads, segments, batch.weights, buffer.masks),
            *(buffer.actions, buffer.logprobs, buffer.advantages, buffer.returns),
            *(buffer.values.clone(), buffer.values, buffer.ratios, moments, ent_coef),
            *map(float, (train.clip_coef, train.vf_clip_coef, train.vf_coef)),
            *(out, terms, sd_slopes),
        )
        if sd_slopes is not None and self._sd_grad is not None:
            self._sd_grad.add_(sd_slopes.sum(1))
        self._head_grad.addmm_(out.t(), hidden)
        self._head_bias_grad.add_(out.sum(0))
        slopes = torch.mm(out, self._head)
        if policy.gates:
            slopes = self._recall(layers[-1], gates, horizon, state, fresh, states, slopes)
        slopes = self._descend(layers, slopes.to(self._dtype))
        if self._table_grad is not None and encoded is not None:
            slopes = torch.mm(slopes, self._weights[0].t()).view(len(encoded), -1)
            self._table_grad.index_add_(0, encoded, slopes.float())
        return terms.sum(1)

    def _recall(
        self,
        x: Tensor,
        gates: Tensor,
        steps: int,
        state: Tensor,
        fresh: Tensor,
        states: Tensor,
        slopes: Tensor,
    ) -> Tensor:
        """From d loss / d outputs of the minGRU to d loss / d x; adds to the gradients."""
        size, grads = (steps, len(x) // steps, self.policy.hidden), self._gate_grads
        self._recurrence.mingru_backward(*size, x.float(), gates, state, fresh, states, slopes)
        self._add_product(grads[0], x, gates.to(self._dtype))
        grads[1].add_(gates.sum(0))
        return slopes.add_(torch.mm(gates.to(self._dtype), self._gate_weight.t()))

    def _descend(self, layers: list[Tensor], slopes: Tensor) -> Tensor:
        """From d loss / d output of the last hidden layer down to the first, before its bias and ReLU."""
        count = len(self._weights)
        for layer in reversed(range(count)):
            slopes = torch.ops.aten.threshold_backward(slopes, layers[layer + 1], 0)  # of the ReLU
            self._add_product(self._grads[layer], layers[layer], slopes)
            self._grads[count + layer].add_(slopes.sum(0, dtype=torch.float32))
            if layer:
                slopes = torch.mm(slopes, self._weights[layer].t())
        return slopes

    def _add_product(self, grad: Tensor, x: Tensor, slopes: Tensor) -> None:
        if self._dtype == torch.float32:
            grad.addmm_(x.t(), slopes)
        else:
            grad.add_(torch.mm(x.t(), slopes))
