# SPDX-License-Identifier: Apache-2.0
"""The settings of LRP among which a calibration chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lstm_explain.methods.composite import Composite, Gamma, Rule, ZPlus
from lstm_explain.methods.lrp import LRP, RELATIVE, ProductRule
from lstm_explain.model import Model
from lstm_explain.operators import TABLE

PAPERS = 1e-3  # the papers' epsilon
DEFAULT_NAME, PAPERS_NAME, CONFIGURED_NAME = "default", f"epsilon={PAPERS:g}", "as configured"

# docs/stabilisers.md studies them. None of the numbers suits every network: one whose relevance does not grow needs no
# stabiliser, and one whose border is high needs a larger one, or a lower ceiling.
STABILISERS: tuple[dict[str, Any], ...] = (
    {},
    {"stabiliser": 0.03},
    {"stabiliser": 0.05},
    {"stabiliser": 0.2},
    {"stabiliser": 0.4},
    {"stabiliser": 0.05, "cell_stabiliser": 0.01},
    {"stabiliser": 0.1, "cell_stabiliser": 0.02},
    {"ceiling": 2.0},
    {"stabiliser": 0.03, "ceiling": 2.0},
    {"stabiliser": 0.0, "layer_stabiliser": 0.0, "ceiling": 1.0},
)
RULES: tuple[Rule, ...] = (Gamma(0.25), ZPlus())  # for the dense layers around the cells


def candidates(model: Model, base: LRP) -> dict[str, LRP]:
    """Returns the settings to compare, by label; the first one is the default.

    All have a ceiling: an absolute epsilon that is faithful at the lengths and in the units of the data may still fail
    at others. base: has the parameters that stay as they are, such as the product rule. Its own stabiliser is a
    candidate too.
    """
    kept = {name: value for name, value in base.parameters().items() if name not in ("epsilon", *RELATIVE)}
    found = {DEFAULT_NAME: LRP(**kept)}
    found |= {_label(numbers): LRP(**kept, **numbers) for numbers in STABILISERS[1:]}
    for other in _other_product_rules(model, base):
        found[f"product_rule={other}"] = replace(found[DEFAULT_NAME], product_rule=other)
    if base.composite is None and _has_dense_layers(model):
        for rule in RULES:
            composite = Composite({"dense": rule})
            found[f"composite={composite}"] = replace(found[DEFAULT_NAME], composite=composite)
    if base not in found.values():
        found[CONFIGURED_NAME] = base
    return found


def papers(base: LRP) -> LRP:
    """Returns the papers' setting, which the choice is compared with."""
    return base.absolute(PAPERS)


def entry(method: LRP) -> dict[str, Any]:
    """Returns the method as `model.yaml` has it: all numbers of its stabiliser, and what differs from the engine's
    defaults.
    """
    stabiliser = dict(zip(RELATIVE, method.relative, strict=True)) if method.relative else {"epsilon": method.epsilon}
    others = {
        name: value if isinstance(value, (str, float, int)) else str(value)
        for name, value in method.parameters().items()
        if name not in ("epsilon", *RELATIVE) and value != getattr(LRP(), name)
    }
    return {"name": method.name, **others, **stabiliser}


def _label(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in numbers.items())


def _other_product_rules(model: Model, base: LRP) -> tuple[ProductRule, ...]:
    """Returns the product rules to compare with that of `base`. Without attention, "attn" is "all"."""
    attends = any(node.attention for node in model.report().nodes)
    others: dict[ProductRule, tuple[ProductRule, ...]] = {
        "all": ("half", "attn") if attends else ("half",),
        "attn": ("all", "half") if attends else ("half",),
    }
    return others.get(base.product_rule, ())


def _has_dense_layers(model: Model) -> bool:
    return any((entry := TABLE.get(node.op)) is not None and entry.layer == "dense" for node in model.report().nodes)
