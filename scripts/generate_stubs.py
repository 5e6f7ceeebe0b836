"""Regenerates the Python stubs under proto/python from the .proto files.

protoc writes absolute imports of `lstm_explain.v1`, the server's own package; the stubs live in a package of their own
so that the client needs nothing of the server, and the imports are rewritten to say so.

Names of messages are global in a process. Whoever uses another implementation of the Open Inference Protocol beside
ours (tritonclient brings one) would have them twice, so the stubs of `inference` get a descriptor pool of their own.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "lstm_explain_proto"
OWN_POOL = "inference"


def generate(out: Path) -> None:
    """Writes the package of stubs into the folder `out`."""
    package = out / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").glob("*/**/*.proto"))
    arguments = [f"-I{ROOT / 'proto'}", *(f"--{kind}_out={package}" for kind in ("python", "pyi", "grpc_python"))]
    if protoc.main(["protoc", *arguments, *sources]):
        sys.exit("protoc failed")
    folders = {package, *(package / parent for s in sources for parent in Path(s).parents)}
    for folder in folders:
        (folder / "__init__.py").write_text('"""Generated from proto/ by `make proto`; do not edit."""\n')
    config = Path("lstm_explain") / "v1" / "service_config.json"
    (package / config).write_bytes((ROOT / "proto" / config).read_bytes())
    tops = "|".join(sorted({Path(s).parts[0] for s in sources}))
    for stub in package.rglob("*_pb2*.py*"):
        text = stub.read_text()
        text = re.sub(rf"^from ({tops})((?:\.\w+)*) import", rf"from {PACKAGE}.\1\2 import", text, flags=re.M)
        text = re.sub(rf"^import (({tops})(?:\.\w+)*)_pb2 as", rf"import {PACKAGE}.\1_pb2 as", text, flags=re.M)
        if stub.parent.name == OWN_POOL:
            text = text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()")
        stub.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "proto" / "python")
    generate(parser.parse_args().out)
