# SPDX-License-Identifier: Apache-2.0
"""Recurrent cells as their authors write them in torch, for the second zoo.

A cell is a module that maps a sequence [N, T, width] to [N, T, hidden].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HIDDEN, KEYS = 4, 8, 4


class Cell(nn.Module):
    """Linear maps by name, made when a subclass lists them as `name: (rows, columns)`; a step is `step`."""

    maps: dict[str, tuple[int, int]] = {}
    states = 1

    def __init__(self) -> None:
        super().__init__()
        self.of = nn.ModuleDict({name: nn.Linear(*sizes) for name, sizes in self.maps.items()})

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.new_zeros(x.shape[0], HIDDEN) for _ in range(self.states))

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Returns what is read, then the new states."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        states, read = self.start(x), []
        for t in range(x.shape[1]):
            y, *states = self.step(x[:, t], *states)
            read.append(y)
        return torch.stack(read, dim=1)


X = (WIDTH, HIDDEN)


def uniform(low: float, high: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).uniform_(low, high))


def normal(*shape: int, fan_in: int) -> nn.Parameter:
    """Weights whose sums over `fan_in` units have the variance of a unit."""
    return nn.Parameter(torch.randn(*shape) / math.sqrt(fan_in))


class SLSTM(Cell):
    """NX-AI/xlstm, sLSTM: exponential gates with normaliser and stabiliser states (arXiv 2405.04517)."""

    maps, states = {"gates": (WIDTH + HIDDEN, 4 * HIDDEN)}, 4

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, c, n, m = states
        i, f, z, o = self.of["gates"](torch.cat([x, h], dim=-1)).chunk(4, dim=-1)
        log_f = m + F.logsigmoid(f + 2.0)
        new_m = torch.maximum(i, log_f)
        i, f = torch.exp(i - new_m), torch.exp(log_f - new_m)
        c = f * c + i * torch.tanh(z)
        n = f * n + i
        h = torch.sigmoid(o) * c / n
        return h, h, c, n, new_m


class MLSTM(Cell):
    """NX-AI/xlstm, mLSTM, recurrent_step_stabilized_simple."""

    maps = {"qkv": (WIDTH, 3 * HIDDEN), "gates": (WIDTH, 2), "out": X}

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        zeros = x.new_zeros
        batch = x.shape[0]
        return zeros(batch, HIDDEN, HIDDEN), zeros(batch, HIDDEN, 1), zeros(batch, 1, 1)

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        c, n, m = states
        q, k, v = (part.unsqueeze(-1) for part in self.of["qkv"](x).chunk(3, dim=-1))
        i, f = (part.unsqueeze(-1) for part in self.of["gates"](x).chunk(2, dim=-1))
        log_f = F.logsigmoid(f + 2.0)
        new_m = torch.max(log_f + m, i)
        f, i = torch.exp(log_f + m - new_m), torch.exp(i - new_m)
        k = k / math.sqrt(HIDDEN)
        c = f * c + i * (k @ v.transpose(-1, -2))
        n = f * n + i * k
        read = q.transpose(-1, -2) @ c
        size = torch.max((q.transpose(-1, -2) @ n).abs(), torch.exp(-new_m))
        h = (read / (size + 1e-6)).squeeze(1)
        return torch.sigmoid(self.of["out"](x)) * h, c, n, new_m


class ParallelMLSTM(Cell):
    """NX-AI/xlstm, mLSTM, parallel_stabilized_simple: all steps at once, decays as a matrix of exponentials."""

    maps = {"qkv": (WIDTH, 3 * HIDDEN), "gates": (WIDTH, 2), "out": X}

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.of["qkv"](x).chunk(3, dim=-1)
        i, f = self.of["gates"](x).chunk(2, dim=-1)
        steps = x.shape[1]
        sums = torch.cumsum(F.logsigmoid(f + 2.0), dim=1)
        log_decay = sums - sums.transpose(1, 2) + i.transpose(1, 2)
        causal = torch.tril(torch.ones(steps, steps, dtype=torch.bool))
        log_decay = log_decay.masked_fill(~causal, -float("inf"))
        most = log_decay.max(dim=-1, keepdim=True).values
        weights = (q @ (k / math.sqrt(HIDDEN)).transpose(1, 2)) * torch.exp(log_decay - most)
        size = torch.maximum(weights.sum(dim=-1, keepdim=True).abs(), torch.exp(-most))
        return torch.sigmoid(self.of["out"](x)) * ((weights / (size + 1e-6)) @ v)


class RMSNorm(nn.Module):
    """As most authors write it; the legacy exporter has no nn.RMSNorm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


@torch.jit.script
def scripted_scan(u: Tensor, decay: Tensor, fresh: Tensor, read: Tensor) -> Tensor:
    """h = decay h + fresh, y = h read, in a loop that the legacy exporter writes as Loop."""
    h = torch.zeros_like(fresh[:, 0])
    out = torch.zeros_like(u[:, :0])
    for t in range(u.shape[1]):
        h = decay[:, t] * h + fresh[:, t]
        y = torch.matmul(h, read[:, t].unsqueeze(-1)).squeeze(-1)
        out = torch.cat([out, y.unsqueeze(1)], dim=1)
    return out


class Mamba(Cell):
    """state-spaces/mamba, selective_scan_ref, with its convolution and gate (arXiv 2312.00752)."""

    maps = {"enter": (WIDTH, 2 * HIDDEN), "x": (HIDDEN, 2 + 2 * KEYS), "dt": (2, HIDDEN), "out": (HIDDEN, HIDDEN)}
    scripted = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(HIDDEN, HIDDEN, 3, groups=HIDDEN, padding=2)
        self.a_log = nn.Parameter(torch.log(torch.arange(1, KEYS + 1).float().repeat(HIDDEN, 1)))
        self.d = nn.Parameter(torch.ones(HIDDEN))
        nn.init.constant_(self.of["dt"].bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        u, z = self.of["enter"](x).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., :steps].transpose(1, 2))
        dt, b, c = self.of["x"](u).split([2, KEYS, KEYS], dim=-1)
        dt, a = F.softplus(self.of["dt"](dt)), -torch.exp(self.a_log)
        decay = torch.exp(torch.einsum("btd,dn->btdn", dt, a))
        fresh = torch.einsum("btd,btn,btd->btdn", dt, b, u)
        if self.scripted:
            y = scripted_scan(u, decay, fresh, c)
        else:
            h, ys = torch.zeros_like(fresh[:, 0]), []
            for t in range(steps):
                h = decay[:, t] * h + fresh[:, t]
                ys.append(torch.einsum("bdn,bn->bd", h, c[:, t]))
            y = torch.stack(ys, dim=1)
        return self.of["out"]((y + u * self.d) * F.silu(z))


class ScriptedMamba(Mamba):
    """The same with a scripted loop, which the legacy exporter writes as Loop."""

    scripted = True


class Mamba2(Cell):
    """state-spaces/mamba, ssd_minimal_discrete, one chunk: decays by cumsum and segsum (arXiv 2405.21060)."""

    heads = 2
    maps = {"enter": (WIDTH, 2 * HIDDEN + 2 * KEYS + heads), "out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.a_log = nn.Parameter(torch.log(torch.tensor([0.5, 1.0])))
        self.dt_bias = nn.Parameter(torch.tensor([-1.0, -0.5]))
        self.d = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, size = x.shape[0], x.shape[1], HIDDEN // self.heads
        z, u, b, c, dt = self.of["enter"](x).split([HIDDEN, HIDDEN, KEYS, KEYS, self.heads], dim=-1)
        dt = F.softplus(dt + self.dt_bias)
        u = F.silu(u).reshape(batch, steps, self.heads, size)
        sums = torch.cumsum((dt * -torch.exp(self.a_log)).transpose(1, 2), dim=-1)
        causal = torch.tril(torch.ones(steps, steps, dtype=torch.bool))
        decay = torch.exp((sums[..., :, None] - sums[..., None, :]).masked_fill(~causal, -float("inf")))
        y = torch.einsum("bln,bsn,bhls,bshp->blhp", c, b, decay, u * dt[..., None])
        y = (y + u * self.d[:, None]).reshape(batch, steps, HIDDEN)
        return self.of["out"](self.norm(y * F.silu(z)))


class LTC(Cell):
    """mlech26l/ncps, LTCCell with its fused solver of three unfolds (arXiv 2006.04439)."""

    def __init__(self) -> None:
        super().__init__()
        self.sensory_w, self.w = uniform(0.01, 1.0, WIDTH, HIDDEN), uniform(0.01, 0.4, HIDDEN, HIDDEN)
        self.sensory_mu, self.mu = uniform(0.3, 0.8, WIDTH, HIDDEN), uniform(0.3, 0.8, HIDDEN, HIDDEN)
        self.sensory_sigma, self.sigma = uniform(1, 3, WIDTH, HIDDEN), uniform(1, 3, HIDDEN, HIDDEN)
        self.sensory_erev = nn.Parameter(torch.randint(0, 2, (WIDTH, HIDDEN)) * 2.0 - 1.0)
        self.erev = nn.Parameter(torch.randint(0, 2, (HIDDEN, HIDDEN)) * 2.0 - 1.0)
        self.gleak, self.vleak = uniform(0.01, 1.0, HIDDEN), uniform(-0.2, 0.2, HIDDEN)
        self.cm = uniform(0.4, 0.6, HIDDEN)

    @staticmethod
    def activation(v: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
        return torch.sigmoid(sigma * (torch.unsqueeze(v, -1) - mu))

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        (v,) = states
        sensory = F.softplus(self.sensory_w) * self.activation(x, self.sensory_mu, self.sensory_sigma)
        sensory_top, sensory_bottom = torch.sum(sensory * self.sensory_erev, dim=1), torch.sum(sensory, dim=1)
        cm = F.softplus(self.cm) * 3
        for _ in range(3):
            w = F.softplus(self.w) * self.activation(v, self.mu, self.sigma)
            top = cm * v + F.softplus(self.gleak) * self.vleak + torch.sum(w * self.erev, dim=1) + sensory_top
            v = top / (cm + F.softplus(self.gleak) + torch.sum(w, dim=1) + sensory_bottom + 1e-8)
        return v, v


class CfC(Cell):
    """mlech26l/ncps, CfCCell in its default mode: two heads, blended by a gate of time (arXiv 2106.13898)."""

    maps = {"backbone": (WIDTH + HIDDEN, HIDDEN)} | dict.fromkeys(("ff1", "ff2", "time_a", "time_b"), (HIDDEN, HIDDEN))

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y = 1.7159 * torch.tanh(0.666 * self.of["backbone"](torch.cat([x, states[0]], 1)))
        ff1, ff2 = torch.tanh(self.of["ff1"](y)), torch.tanh(self.of["ff2"](y))
        gate = torch.sigmoid(self.of["time_a"](y) * 1.0 + self.of["time_b"](y))
        h = ff1 * (1.0 - gate) + gate * ff2
        return h, h


class GRUD(Cell):
    """Han-JD/GRU-D: x [N, 4, T, width] holds values, last observations, masks, intervals (arXiv 1606.01865)."""

    maps = dict.fromkeys(("z", "r", "h"), (2 * WIDTH + HIDDEN, HIDDEN)) | {"gamma_h": X}

    def __init__(self) -> None:
        super().__init__()
        self.gamma_x = nn.Linear(WIDTH, WIDTH)
        self.mean = nn.Parameter(torch.zeros(WIDTH), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h, read = x.new_zeros(x.shape[0], HIDDEN), []
        for t in range(x.shape[2]):
            value, last, mask, delta = (x[:, i, t] for i in range(4))
            decay_x = torch.exp(-torch.max(torch.zeros_like(delta), self.gamma_x(delta)))
            decay_h = torch.exp(-torch.relu(self.of["gamma_h"](delta)))
            value = mask * value + (1 - mask) * (decay_x * last + (1 - decay_x) * self.mean)
            h = decay_h * h
            both = torch.cat((value, h, mask), 1)
            z, r = torch.sigmoid(self.of["z"](both)), torch.sigmoid(self.of["r"](both))
            new = torch.tanh(self.of["h"](torch.cat((value, r * h, mask), 1)))
            h = (1 - z) * h + z * new
            read.append(h)
        return torch.stack(read, dim=1)


def g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def log_g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, (F.relu(x) + 0.5).log(), -F.softplus(-x))


def heinsen_scan(log_coefficients: Tensor, log_values: Tensor) -> Tensor:
    sums = log_coefficients.cumsum(dim=1)
    shifted = log_values - sums
    if torch.jit.is_tracing():  # The legacy exporter has no logcumsumexp.
        most = shifted.amax(dim=1, keepdim=True)
        return (sums + (shifted - most).exp().cumsum(dim=1).log() + most).exp()
    return (sums + shifted.logcumsumexp(dim=1)).exp()


class MinGRU(Cell):
    """lucidrains/minGRU-pytorch: a parallel scan in log space (arXiv 2410.01201)."""

    maps = {"enter": (WIDTH, 2 * HIDDEN)}

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.of["enter"](x).chunk(2, dim=-1)
        return heinsen_scan(-F.softplus(gate), -F.softplus(-gate) + log_g(hidden))


class MinLSTM(Cell):
    """lucidrains/minGRU-pytorch, minLSTM: forget and input gates share their sum."""

    maps = {"enter": (WIDTH, 3 * HIDDEN)}

    def forward(self, x: Tensor) -> Tensor:
        hidden, f, i = self.of["enter"](x).chunk(3, dim=-1)
        difference = F.softplus(-f) - F.softplus(-i)
        log_f, log_i = -F.softplus(difference), -F.softplus(-difference)
        return heinsen_scan(log_f, log_i + log_g(hidden))


class SequentialMinGRU(Cell):
    """The same cell step by step, as at inference."""

    maps = {"enter": (WIDTH, 2 * HIDDEN)}

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        hidden, gate = self.of["enter"](x).chunk(2, dim=-1)
        h = torch.lerp(states[0], g(hidden), gate.sigmoid())
        return h, h
