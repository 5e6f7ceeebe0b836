# SPDX-License-Identifier: Apache-2.0
"""Any YAML in model.yaml gives a configuration, or an error that names file and line."""

from __future__ import annotations

import re

import pytest
import yaml

from lstm_explain.errors import ModelError
from lstm_explain.repository import yaml_reader
from lstm_explain.repository.model_yaml import parse_config

NINES = "9" * 6000
HOSTILE = {
    "6,000 digits": f"description: {NINES}",
    "6,000 digits of an index": f"target: {{index: {NINES}}}",
    "hexadecimal digits": "limits: {max_batch: 0x" + "f" * 6000 + "}",
    "octal digits": "limits: {max_batch: 0" + "7" * 60000 + "}",
    "sixties": "limits: {max_batch: 1:" + ":".join(["59"] * 3000) + "}",
    "sixties of a fraction": "limits: {max_batch: 1:" + ":".join(["59"] * 3000) + ".5}",
    "beyond 64 bits": "target: {index: 9223372036854775808}",
    "no month": "description: 2024-13-45",
    "no day": "description: 2024-02-30",
    "no hour": "description: 2024-02-20T99:00:00Z",
    "a date": "description: 2024-02-20",
    "a surrogate": r'description: "\ud800"',
    "a surrogate as a key": r'"\ud800": 1',
    "a surrogate in a list": r'classes: {logits: ["\udfff", a, b]}',
    "a surrogate of a node": r'gates: {"\ud800": 1}',
    "a surrogate of a baseline": r'method: {name: integrated_gradients, baseline: ["\ud800"]}',
    "no character": r'description: "\U99999999"',
    "beyond Unicode": r'description: "\U00110000"',
    "not a number": "method: {name: lrp, epsilon: .nan}",
    "infinite": "method: {name: lrp, epsilon: .inf}",
    "a huge exponent": "method: {name: lrp, epsilon: 1.0e+9999}",
    "aliases": "a: &a [1]\nb: *a",
    "an alias of nothing": "*a",
    "merged": "<<: {description: a}",
    "deep": "[" * 100_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(300)),
    "many values": "classes: {logits: [" + ",".join("a" * 400_000) + "]}",
    "a timestamp": 'description: !!timestamp "x"',
    "binary": 'description: !!binary "%%%"',
    "a set": "classes: !!set {a, b}",
    "pairs": "classes: !!pairs [a: 1]",
    "an ordered map": "classes: !!omap [a: 1]",
    "an object": 'description: !!python/object/apply:os.system ["true"]',
    "an own tag": "description: !foo bar",
    "no whole number": 'description: !!int "x"',
    "an empty number": 'description: !!int ""',
    "no truth": 'description: !!bool "x"',
    "a list as a key": "? [a, b]\n: 1",
    "a map as a key": "? {a: b}\n: 1",
    "a number as a key": "1: 2",
    "null as a key": "~: 2",
    "given twice": "description: a\ndescription: b",
    "two documents": "description: a\n---\ndescription: b",
    "a list": "[1, 2]",
    "a control character": "description: \x07",
    "a null byte in a path": r'tokenizer: {file: "a\0b", input: x}',
    "a long path": f"tokenizer: {{file: {'a' * 5000}, input: x}}",
    "no path": 'tokenizer: {file: "", input: x}',
    "a folder": "tokenizer: {file: ., input: x}",
}


@pytest.fixture(params=["compiled", "pure"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with and without PyYAML's compiled parser."""
    if request.param == "pure":

        class Pure(yaml.SafeLoader):
            yaml_implicit_resolvers = yaml_reader._Loader.yaml_implicit_resolvers
            yaml_constructors = yaml_reader._Loader.yaml_constructors

        monkeypatch.setattr(yaml_reader, "_Loader", Pure)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_yaml_is_an_error_with_a_line(case: str) -> None:
    with pytest.raises(ModelError) as raised:
        parse_config(HOSTILE[case])
    assert re.match(r"model\.yaml:\d+: \S", str(raised.value))
    assert len(str(raised.value)) < 1000


@pytest.mark.usefixtures("loader")
def test_plain_values_have_the_expected_types() -> None:
    text = (
        "description: 'on 2024-02-20'\nmethod: {name: lrp, epsilon: 1.0e-3, product_rule: all}\n"
        "target: {index: 0x10, pre_activation: no}\ntime_axis: {x: 1}\nunits: {x: =}\n"
        "classes: {logits: ['yes', \"é\\u00e9\", 日本]}\nbatching: {max_batch: 1_000, max_delay_ms: 2}\n"
    )
    config = parse_config(text).config
    assert config.description == "on 2024-02-20"
    assert config.default_method().epsilon == 1e-3
    assert (config.target.index, config.target.pre_activation) == (16, False)
    assert config.classes == {"logits": ["yes", "éé", "日本"]}
    assert config.units == {"x": "="}
    assert (config.batching.max_batch, config.batching.max_delay_ms) == (1000, 2.0)
    assert parse_config("").config == parse_config("# nothing").config
