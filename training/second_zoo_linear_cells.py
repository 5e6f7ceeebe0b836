# SPDX-License-Identifier: Apache-2.0
"""More cells of the second zoo: linear recurrences, linear attention and quasi-recurrent cells."""

import math

import torch
from second_zoo_cells import HIDDEN, WIDTH, Cell, RMSNorm, X, normal, uniform
from torch import Tensor, nn
from torch.nn import functional as F

HEADS, SIZE = 2, HIDDEN // 2  # of the cells with several heads


class LRU(Cell):
    """Orvieto et al. 2023 (arXiv 2303.06349), the complex state as a pair of real ones."""

    maps, states = {"skip": X}, 2

    def __init__(self) -> None:
        super().__init__()
        size, angle = torch.empty(HIDDEN).uniform_(0.6, 0.95), torch.empty(HIDDEN).uniform_(0.01, 1.5)
        self.nu_log = nn.Parameter(torch.log(-torch.log(size)))
        self.theta_log = nn.Parameter(torch.log(angle))
        self.gamma_log = nn.Parameter(torch.log(torch.sqrt(1 - size**2)))
        self.b = normal(2, HIDDEN, WIDTH, fan_in=2 * WIDTH)
        self.c = normal(2, HIDDEN, HIDDEN, fan_in=HIDDEN)

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        real, imaginary = states
        size, angle, gamma = torch.exp(-torch.exp(self.nu_log)), torch.exp(self.theta_log), torch.exp(self.gamma_log)
        a, b = size * torch.cos(angle), size * torch.sin(angle)
        u = torch.einsum("bi,phi->pbh", x, self.b) * gamma
        real, imaginary = a * real - b * imaginary + u[0], a * imaginary + b * real + u[1]
        return real @ self.c[0] - imaginary @ self.c[1] + self.of["skip"](x), real, imaginary


class S4D(Cell):
    """state-spaces/s4, S4DKernel in real numbers, applied as a causal convolution, then GELU and a GLU."""

    maps = {"enter": X, "out": (HIDDEN, 2 * HIDDEN)}
    keys, steps = 4, 12  # The legacy exporter ends the process at a kernel whose length it computes.

    def __init__(self) -> None:
        super().__init__()
        self.log_dt = uniform(math.log(0.05), math.log(0.5), HIDDEN)
        self.log_a_real = nn.Parameter(torch.log(0.5 * torch.ones(HIDDEN, self.keys)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(self.keys).float().repeat(HIDDEN, 1))
        self.c = nn.Parameter(torch.randn(2, HIDDEN, self.keys) * 0.5)
        self.d = nn.Parameter(torch.randn(HIDDEN))

    def kernel(self) -> Tensor:
        dt = torch.exp(self.log_dt)[:, None, None]
        time = torch.arange(self.steps, dtype=dt.dtype)
        decay = torch.exp(-torch.exp(self.log_a_real)[..., None] * dt * time)
        angle = self.a_imag[..., None] * dt * time
        real, imaginary = decay * torch.cos(angle), decay * torch.sin(angle)
        return 2 * dt[..., 0] * (self.c[0][..., None] * real - self.c[1][..., None] * imaginary).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        u = self.of["enter"](x).transpose(1, 2)
        y = F.conv1d(u, self.kernel().flip(1)[:, None], groups=HIDDEN, padding=self.steps - 1)
        y = F.gelu(y[..., : self.steps] + u * self.d[:, None]).transpose(1, 2)
        return F.glu(self.of["out"](y), dim=-1)


class RGLRU(Cell):
    """google-deepmind/recurrentgemma: a convolution, RG-LRU, and a GELU branch (arXiv 2402.19427)."""

    maps = {"x": X, "y": X, "a_gate": (HIDDEN, HIDDEN), "x_gate": (HIDDEN, HIDDEN), "out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(HIDDEN, HIDDEN, 3, groups=HIDDEN, padding=2)
        self.a_param = uniform(-2.0, 0.0, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        u = self.conv(self.of["x"](x).transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        gate_x, gate_a = torch.sigmoid(self.of["x_gate"](u)), torch.sigmoid(self.of["a_gate"](u))
        log_a = -8.0 * gate_a * F.softplus(self.a_param - 2.0)
        a, multiplier = torch.exp(log_a), torch.sqrt(1 - torch.exp(2 * log_a) + 1e-6)
        fresh, h, read = u * gate_x * multiplier, torch.zeros_like(u[:, 0]), []
        for t in range(x.shape[1]):
            h = a[:, t] * h + fresh[:, t]
            read.append(h)
        return self.of["out"](torch.stack(read, dim=1) * F.gelu(self.of["y"](x), approximate="tanh"))


def shifted(x: Tensor) -> Tensor:
    """Returns the step before, as RWKV's time_shift does."""
    return F.pad(x, (0, 0, 1, -1))


class RWKV4(Cell):
    """BlinkDL/RWKV-LM, RWKV-4: time mixing with its stabilised exponentials."""

    maps = {"enter": X, "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN), "r": (HIDDEN, HIDDEN), "out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ParameterDict({name: torch.rand(HIDDEN) for name in "kvr"})
        self.decay, self.first = nn.Parameter(torch.linspace(-3, 0, HIDDEN)), nn.Parameter(0.3 * torch.randn(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        x = self.of["enter"](x)
        k, v, r = (self.of[name](x * self.mix[name] + shifted(x) * (1 - self.mix[name])) for name in "kvr")
        above, below, most, read = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0]), x[:, 0] * 0 - 38.0, []
        w = -torch.exp(self.decay)
        for t in range(x.shape[1]):
            p = torch.maximum(most, self.first + k[:, t])
            e1, e2 = torch.exp(most - p), torch.exp(self.first + k[:, t] - p)
            read.append((e1 * above + e2 * v[:, t]) / (e1 * below + e2))
            p = torch.maximum(most + w, k[:, t])
            e1, e2 = torch.exp(most + w - p), torch.exp(k[:, t] - p)
            above, below, most = e1 * above + e2 * v[:, t], e1 * below + e2, p
        return self.of["out"](torch.sigmoid(r) * torch.stack(read, dim=1))


def heads(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1], HEADS, SIZE)


class RWKV6(Cell):
    """BlinkDL/RWKV-LM, RWKV-6: decays that depend on the input through a low-rank map."""

    maps = dict.fromkeys(("k", "v", "r", "g", "out"), (HIDDEN, HIDDEN)) | {"enter": X, "w1": (HIDDEN, 2)}

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ParameterDict({name: torch.rand(HIDDEN) for name in "kvrgw"})
        self.w2 = nn.Parameter(0.5 * torch.randn(2, HIDDEN))
        self.decay, self.first = nn.Parameter(torch.linspace(-3, 0, HIDDEN)), nn.Parameter(torch.randn(HEADS, SIZE))
        self.norm = nn.GroupNorm(HEADS, HIDDEN, eps=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.of["enter"](x)
        delta = shifted(x) - x
        mixed = {name: x + delta * mix for name, mix in self.mix.items()}
        k, v, r = (heads(self.of[name](mixed[name])) for name in "kvr")
        w = heads(torch.exp(-torch.exp(self.decay + torch.tanh(self.of["w1"](mixed["w"])) @ self.w2)))
        state, read = x.new_zeros(x.shape[0], HEADS, SIZE, SIZE), []
        for t in range(x.shape[1]):
            outer = k[:, t].unsqueeze(-1) @ v[:, t].unsqueeze(-2)
            read.append((r[:, t].unsqueeze(-2) @ (self.first.unsqueeze(-1) * outer + state)).squeeze(-2))
            state = w[:, t].unsqueeze(-1) * state + outer
        y = self.norm(torch.stack(read, dim=1).reshape(-1, HIDDEN)).view(x.shape)
        return self.of["out"](y * F.silu(self.of["g"](mixed["g"])))


class RWKV7(Cell):
    """BlinkDL/RWKV-LM, RWKV-7: the state loses what the key finds, and takes the value (arXiv 2503.14456)."""

    maps = dict.fromkeys(("k", "v", "r", "g", "a", "w", "out"), (HIDDEN, HIDDEN)) | {"enter": X}

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ParameterDict({name: torch.rand(HIDDEN) for name in "kvrgaw"})
        self.norm = nn.GroupNorm(HEADS, HIDDEN, eps=64e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.of["enter"](x)
        delta = shifted(x) - x
        mixed = {name: self.of[name](x + delta * mix) for name, mix in self.mix.items()}
        w = heads(torch.exp(-0.606531 * torch.sigmoid(mixed["w"])))
        k, v, r, a = (heads(mixed[name]) for name in "kvra")
        k, a = F.normalize(k, dim=-1), torch.sigmoid(a)
        state, read = x.new_zeros(x.shape[0], HEADS, SIZE, SIZE), []
        for t in range(x.shape[1]):
            erased = state @ (-k[:, t]).unsqueeze(-1) @ (k[:, t] * a[:, t]).unsqueeze(-2)
            state = state * w[:, t].unsqueeze(-2) + erased + v[:, t].unsqueeze(-1) @ k[:, t].unsqueeze(-2)
            read.append((state @ r[:, t].unsqueeze(-1)).squeeze(-1))
        y = self.norm(torch.stack(read, dim=1).reshape(-1, HIDDEN)).view(x.shape)
        return self.of["out"](y * torch.sigmoid(mixed["g"]))


class RetNet(Cell):
    """microsoft/torchscale, MultiScaleRetention, parallel form: a mask of decays, a norm per head, a SiLU gate."""

    maps = dict.fromkeys(("q", "k", "v", "g"), X) | {"out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(SIZE)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        q, k, v = (heads(self.of[name](x)).transpose(1, 2) for name in "qkv")
        decay = torch.log(1 - 2 ** (-2.0 - torch.arange(HEADS, dtype=x.dtype)))
        index = torch.arange(steps, dtype=x.dtype)
        mask = torch.tril(torch.exp((index[:, None] - index[None, :]) * decay[:, None, None]))
        mask = mask / mask.sum(dim=-1, keepdim=True).sqrt()
        scores = (q @ k.transpose(-1, -2)) * SIZE**-0.5 * mask
        scores = scores / scores.detach().abs().sum(dim=-1, keepdim=True).clamp(min=1)
        y = self.norm((scores @ v).transpose(1, 2)).reshape(-1, steps, HIDDEN)
        return self.of["out"](F.silu(self.of["g"](x)) * y)


class GLA(Cell):
    """fla-org/flash-linear-attention, naive_recurrent_gla: decays per key (arXiv 2312.06635)."""

    maps = dict.fromkeys(("q", "k", "v", "gk", "g"), X) | {"out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(SIZE)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, gk = (heads(self.of[name](x)).transpose(1, 2) for name in ("q", "k", "v", "gk"))
        gk = (F.logsigmoid(gk) / 4).exp()
        state, read = x.new_zeros(x.shape[0], HEADS, SIZE, SIZE), []
        for t in range(x.shape[1]):
            state = state * gk[:, :, t, :, None] + k[:, :, t, :, None] * v[:, :, t, None, :]
            read.append((q[:, :, t, :, None] * SIZE**-0.5 * state).sum(-2))
        y = self.norm(torch.stack(read, dim=1)).flatten(2)
        return self.of["out"](y * F.silu(self.of["g"](x)))


class GatedDeltaNet(Cell):
    """fla-org/flash-linear-attention, naive_recurrent_gated_delta_rule (arXiv 2412.06464)."""

    maps = dict.fromkeys(("q", "k", "v", "g"), X) | {"a": (WIDTH, HEADS), "b": (WIDTH, HEADS)}
    maps |= {"out": (HIDDEN, HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.a_log = nn.Parameter(torch.log(torch.tensor([0.5, 1.0])))
        self.dt_bias = nn.Parameter(torch.tensor([-1.0, -0.5]))
        self.norm = RMSNorm(SIZE)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(F.silu(self.of[name](x))) for name in "qkv")
        q, k = F.normalize(q, dim=-1) * SIZE**-0.5, F.normalize(k, dim=-1)
        beta = self.of["b"](x).sigmoid()
        decay = (-self.a_log.exp() * F.softplus(self.of["a"](x) + self.dt_bias)).exp()
        state, read = x.new_zeros(x.shape[0], HEADS, SIZE, SIZE), []
        for t in range(x.shape[1]):
            state = state * decay[:, t, :, None, None]
            found = (state * k[:, t, :, :, None]).sum(-2)
            new = (v[:, t] - found) * beta[:, t, :, None]
            state = state + k[:, t].unsqueeze(-1) * new.unsqueeze(-2)
            read.append(torch.einsum("bhd,bhdm->bhm", q[:, t], state))
        y = self.norm(torch.stack(read, dim=1)).flatten(2)
        return self.of["out"](y * F.silu(self.of["g"](x)))


class QRNN(Cell):
    """salesforce/pytorch-qrnn: a convolution of two steps, ForgetMult and an output gate (arXiv 1611.01576)."""

    maps = {"zfo": (2 * WIDTH, 3 * HIDDEN)}

    def forward(self, x: Tensor) -> Tensor:
        source = torch.cat([torch.cat([x[:, :1] * 0, x[:, :-1]], 1), x], 2)
        z, f, o = self.of["zfo"](source).chunk(3, dim=2)
        z, f, previous, read = torch.tanh(z), torch.sigmoid(f), None, []
        for forget, h in zip(f.split(1, dim=1), (f * z).split(1, dim=1), strict=True):
            if previous is not None:
                h = h + (1 - forget) * previous
            previous = h
            read.append(h)
        return torch.sigmoid(o) * torch.cat(read, dim=1)


class SRU(Cell):
    """asappresearch/sru, its CPU reference: light recurrence and highway (arXiv 1709.02755)."""

    maps = {"u": (WIDTH, 4 * HIDDEN)}

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(0.5 * torch.randn(2, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        u, c, read = self.of["u"](x), x.new_zeros(x.shape[0], HIDDEN), []
        u0, u1, u2, highway = u.chunk(4, dim=-1)
        for t in range(x.shape[1]):
            f, r = (u1[:, t] + c * self.v[0]).sigmoid(), (u2[:, t] + c * self.v[1]).sigmoid()
            c = u0[:, t] + (c - u0[:, t]) * f
            read.append((torch.tanh(c) - highway[:, t]) * r + highway[:, t])
        return torch.stack(read, dim=1)
