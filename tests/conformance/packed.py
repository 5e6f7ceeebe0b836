# SPDX-License-Identifier: Apache-2.0
"""Packs clients as their registries would get them, and runs the examples of their READMEs in an empty folder, with the
packed client and a real server.

Nothing is uploaded, and no cache of a user keeps the packed clients. The Rust crate is only packed
(tests/deploy/test_packages.py), because a build outside of its workspace takes minutes, and CMake's own test builds the
README of the C++ client.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import lstm_explain
import lstm_explain_client
from tests.conformance.runners import ROOT

GO_MODULE = "github.com/lstm-explain/lstm-explain/client/go"
DEFAULT = "127.0.0.1:50051"  # the address in the READMEs
SECONDS = 600
TSC = ("--module", "nodenext", "--target", "es2022")  # as in the README
NPM_INSTALL = ("npm", "install", "--no-audit", "--no-fund")


def _run(*command: str, folder: Path, **environment: str) -> str:
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _example(client: str, file: str, address: str) -> str:
    """The block of a client's README that begins with the name of a file, for another address."""
    text = (ROOT / "client" / client / "README.md").read_text()
    (code,) = re.findall(rf"```\w+\n// {re.escape(file)}[^\n]*\n(.*?)```", text, re.DOTALL)
    assert code.count(DEFAULT) == 1
    return code.replace(DEFAULT, address)


def _check(printed: str, address: str) -> None:
    """The words, and as numbers their relevance, the outputs and the explained value, as the Python client has them."""
    with lstm_explain_client.Client(address) as client:
        text = {"tokens": "neither funny nor suspenseful"}
        answer = client.explain("sentiment", text, method="lrp", parameters={"epsilon": 0.001}, target=0)
    assert all(word in printed for word in answer.tokens["tokens"][0])
    expected = [*answer.relevance["tokens"][0], *answer.outputs["logits"][0], answer.explained[0]]
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+(?:[eE]-?\d+)?", printed)]
    np.testing.assert_allclose(numbers[: len(expected)], expected, rtol=1e-5)


def npm(folder: Path, address: str) -> None:
    """`npm init -y`, the packed client, then node alone, tsc and node, and a program in CommonJS."""
    source = ROOT / "client" / "typescript"
    _run("npm", "pack", "--ignore-scripts", "--pack-destination", str(folder), folder=source)
    (packed,) = folder.glob("*.tgz")
    why = folder / "why"
    why.mkdir()
    _run("npm", "init", "-y", folder=why)
    _run(*NPM_INSTALL, str(packed), folder=why)
    code = _example("typescript", "why.mjs", address)
    (why / "why.mjs").write_text(code)
    _check(_run("node", "why.mjs", folder=why), address)
    (why / "why.mjs").unlink()
    (why / "why.mts").write_text(code)
    versions = json.loads((source / "package.json").read_text())["devDependencies"]
    tools = [f"{name}@{versions[name]}" for name in ("typescript", "@types/node")]
    _run(*NPM_INSTALL, "--save-dev", *tools, folder=why)
    assert " ".join(TSC) in (source / "README.md").read_text()
    _run("npx", "tsc", "--strict", *TSC, "why.mts", folder=why)
    _check(_run("node", "why.mjs", folder=why), address)
    (why / "names.cjs").write_text('console.log(Object.keys(require("lstm-explain-client")).join())\n')
    assert "Client" in _run("node", "names.cjs", folder=why).strip().split(",")


def maven(folder: Path, address: str) -> None:
    """Deploys what the runner's build compiled to a folder: all that Maven Central wants, but for the signatures."""
    source, version = ROOT / "client" / "java", lstm_explain.__version__
    to = f"-DaltDeploymentRepository=dry::file:{folder / 'deployed'}"
    skips = ("-DskipTests", "-Dmaven.install.skip=true")
    _run("mvn", "-B", "-q", "-ntp", "-Prelease", *skips, to, "deploy", folder=source)
    deployed = folder / "deployed" / "io" / "github" / "lstm-explain" / "lstm-explain-client" / version
    name = f"lstm-explain-client-{version}"
    kinds = (".jar", ".pom", "-sources.jar", "-javadoc.jar")
    wanted = {f"{name}{kind}{more}" for kind in kinds for more in ("", ".sha1", ".md5")}
    assert wanted <= {path.name for path in deployed.iterdir()}
    jars = ("", "-sources", "-javadoc")
    classes, sources, pages = (set(zipfile.ZipFile(deployed / f"{name}{kind}.jar").namelist()) for kind in jars)
    assert {"lstmexplain/Client.class", "lstmexplain/service_config.json"} <= classes
    assert not [entry for entry in classes if "conformance" in entry or "example" in entry]
    assert "lstmexplain/Client.java" in sources
    assert "index.html" in pages
    assert any(entry.endswith("lstmexplain/Client.html") for entry in pages)
    (folder / "Why.java").write_text(_example("java", "src/main/java/Why.java", address))
    libraries = f"{deployed / name}.jar{os.pathsep}{source / 'target' / 'lib'}{os.sep}*"
    _check(_run("java", "-cp", libraries, "Why.java", folder=folder), address)


def go(folder: Path, address: str) -> None:
    """`go get` of the module's path."""
    why = folder / "why"
    why.mkdir()
    with _go_proxy(folder / "proxy") as environment:
        _run("go", "mod", "init", "why", folder=why)
        _run("go", "get", f"{GO_MODULE}@latest", folder=why, **environment)
        (why / "main.go").write_text(_example("go", "main.go", address))
        _check(_run("go", "run", ".", folder=why, **environment), address)


@contextmanager
def _go_proxy(proxy: Path) -> Iterator[dict[str, str]]:
    """The environment in which go finds our module in a folder, in the format of a module proxy, and everything else
    where it usually does. The version is unique, and is removed from the user's modules afterwards.
    """
    source, version = ROOT / "client" / "go", f"v{lstm_explain.__version__}-dry.{os.getpid()}"
    usual, modules = _run("go", "env", "GOPROXY", "GOMODCACHE", folder=source).split()
    folder = proxy / GO_MODULE / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{version}\n")
    (folder / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2030-01-01T00:00:00Z"}))
    shutil.copy(source / "go.mod", folder / f"{version}.mod")
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as module:
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.is_file() and inside.parts[0] != "build":
                module.write(path, f"{GO_MODULE}@{version}/{inside}")
    settings = {"GOPROXY": f"file://{proxy},{usual}", "GOFLAGS": "-modcacherw -buildvcs=false", "GONOSUMDB": GO_MODULE}
    try:
        yield settings
    finally:
        shutil.rmtree(Path(modules) / f"{GO_MODULE}@{version}", ignore_errors=True)
        shutil.rmtree(Path(modules) / "cache" / "download" / GO_MODULE, ignore_errors=True)


PACKED = {"typescript": npm, "java": maven, "go": go}
