# SPDX-License-Identifier: Apache-2.0
"""Train the return predictor of the RUDDER example: from where an agent walked to the reward that comes at the end."""

import sys
import time

import numpy as np
import onnxruntime
import torch
from common import ROOT, check_close, make_deterministic, model_path, parser
from export import save_regressor
from torch import nn

sys.path.append(str(ROOT / "scripts" / "results"))
from corridor import CELLS, wander

TRAINING, VALIDATION = 4000, 1000


OPEN = 50.0  # a bias with which a gate is 1 in float32


class Predictor(nn.Module):
    """An LSTM cell made for relevance: c_t = c_{t-1} + sigmoid(W_i x_t + R_i c_{t-1} + b_i) * tanh(W_g x_t).

    As RUDDER has it for contribution analysis (arXiv 1806.07857): no forget gate, no output gate, a cell input that
    sees x alone. The state is not squashed either and the output is a weighted sum of it, without a bias: the predicted
    return is a sum over what steps wrote.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gate_x = nn.Linear(CELLS, hidden_size)
        self.gate_c = nn.Linear(hidden_size, hidden_size, bias=False)
        self.written = nn.Linear(CELLS, hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [batch, 1] of episodes [batch, time, CELLS]."""
        gates, written = self.gate_x(x), self.written(x).tanh()
        c = torch.zeros_like(gates[:, 0])
        for t in range(x.shape[1]):
            c = c + torch.sigmoid(gates[:, t] + self.gate_c(c)) * written[:, t]
        return self.output(c)

    def as_lstm(self) -> nn.LSTM:
        """The same as weights of an LSTM whose other gates are open; for one that does not squash its state."""
        size = self.output.in_features
        lstm = nn.LSTM(CELLS, size, batch_first=True)
        with torch.no_grad():
            for weights in lstm.parameters():
                weights.zero_()
            lstm.weight_ih_l0[:size] = self.gate_x.weight  # rows: input, forget, cell, output
            lstm.weight_hh_l0[:size] = self.gate_c.weight
            lstm.bias_ih_l0[:size] = self.gate_x.bias
            lstm.weight_ih_l0[2 * size : 3 * size] = self.written.weight
            lstm.bias_ih_l0[size : 2 * size] = OPEN
            lstm.bias_ih_l0[3 * size :] = OPEN
        return lstm


def main() -> None:
    options = parser(__doc__, seed=0)
    options.add_argument("--hidden", type=int, default=4, help="cells of the LSTM")
    options.add_argument("--steps", type=int, default=6000, help="of Adam")
    chosen = options.parse_args()
    make_deterministic(chosen.seed)
    rng = np.random.default_rng(chosen.seed)
    training, validation = wander(rng, TRAINING), wander(rng, VALIDATION)
    x, y = torch.from_numpy(training.x), torch.from_numpy(training.returns[:, None])
    model, began = Predictor(chosen.hidden), time.monotonic()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, chosen.steps)
    for _ in range(chosen.steps):
        rows = torch.randint(TRAINING, (128,))
        optimiser.zero_grad()
        ((model(x[rows]) - y[rows]) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        predicted = model(torch.from_numpy(validation.x)).numpy()
    error = float(((predicted[:, 0] - validation.returns) ** 2).mean())
    right = float(((predicted[:, 0] > 0.5) == validation.returns).mean())
    print(
        f"validation: mean squared error {error:.2e}, right {100 * right:.1f} %, "
        f"mean return {validation.returns.mean():.2f}, {time.monotonic() - began:.0f} s"
    )
    path = model_path(chosen.out, "corridor")
    straight = {"activations": ["Sigmoid", "Tanh", "Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}
    save_regressor(path, "corridor", model.as_lstm(), model.output, "x", "return", **straight)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    check_close("corridor", session.run(None, {"x": validation.x})[0], predicted, 1e-5)


if __name__ == "__main__":
    main()
