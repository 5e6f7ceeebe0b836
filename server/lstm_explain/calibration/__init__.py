# SPDX-License-Identifier: Apache-2.0
"""Chooses LRP's parameters for one model, by the faithfulness of its explanations of the model's own inputs."""

from lstm_explain.calibration.calibrate import BUDGET, calibrate
from lstm_explain.calibration.result import Calibration

__all__ = ["BUDGET", "Calibration", "calibrate"]
