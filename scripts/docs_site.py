# SPDX-License-Identifier: Apache-2.0
"""Hooks of MkDocs: pages that lie outside docs/, the reference of the protocol, and links between all of them.

Pages are written to be read in the repository. On the site, a link to another page leads to that page, and a link to
any other file of the repository leads to the repository.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "proto"
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
CLIENTS = ("python", "go", "java", "typescript", "rust", "cpp")
MARKDOWN = ".md"
# Pages of the site by the file that they are made of; those in docs/ keep their names.
ELSEWHERE = {
    source: page + MARKDOWN
    for source, page in {
        "README.md": "index",
        "CONTRIBUTING.md": "contributing",
        "CHANGELOG.md": "changelog",
        "SECURITY.md": "reporting",
        "models/README.md": "models",
        "deploy/README.md": "deploy",
        **{f"client/{name}/README.md": f"clients/{name}" for name in CLIENTS},
    }.items()
}
PROTOCOL = "reference/protocol" + MARKDOWN


def on_files(files: Files, config: Any) -> Files:
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, PROTOCOL, content="\n".join(protocol())))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    source = next((source for source, site in ELSEWHERE.items() if site == here), f"docs/{here}")
    if here == PROTOCOL:
        return markdown
    pages = {**ELSEWHERE, **{f"docs/{file.src_uri}": file.src_uri for file in files}}

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(Path(source).parent / match[1])
        if target in pages:
            return os.path.relpath(pages[target], Path(here).parent)
        if not (ROOT / target).exists():
            return match[1]  # MkDocs reports it
        return f"{config.repo_url.rstrip('/')}/blob/main/{target}"

    return LINK.sub(moved, markdown)


def protocol() -> Iterator[str]:
    """The page of the gRPC services, from the comments in proto/lstm_explain/v1."""
    yield "# The gRPC protocol\n"
    spoken = "[Open Inference Protocol](../service.md#open-inference-protocol)"
    yield f"Generated from `proto/lstm_explain/v1`. The service also speaks the {spoken}.\n"
    for file in sorted(_described(), key=lambda file: not file.service):  # services first
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        yield f"## {Path(file.name).name}\n"
        for number, service in enumerate(file.service):
            yield from _heading(3, service.name, comments.get((6, number)))
            yield "| call | request | response | |\n|---|---|---|---|"
            for at, call in enumerate(service.method):
                request = _streamed(call.input_type, call.client_streaming)
                response = _streamed(call.output_type, call.server_streaming)
                yield f"| `{call.name}` | {request} | {response} | {_cell(comments.get((6, number, 2, at)))} |"
            yield ""
        for number, message in enumerate(file.message_type):
            yield from _message(message, (4, number), comments)
        for number, enum in enumerate(file.enum_type):
            yield from _enum(enum, (5, number), comments, 3)


def _described() -> Iterable[descriptor_pb2.FileDescriptorProto]:
    from grpc_tools import protoc

    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("lstm_explain/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        options = [f"--proto_path={PROTOS}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *options, *names]):
            raise RuntimeError("protoc cannot read the protos")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file


def _message(message: Any, path: tuple[int, ...], comments: dict[tuple[int, ...], str]) -> Iterator[str]:
    yield from _heading(3, message.name, comments.get(path))
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    if message.field:
        yield "| field | type | |\n|---|---|---|"
    for number, field in enumerate(message.field):
        kind = _type(field, maps)
        alternative = ""
        if field.HasField("oneof_index") and not field.proto3_optional:
            alternative = f"One of `{message.oneof_decl[field.oneof_index].name}`. "
        yield f"| `{field.name}` = {field.number} | {kind} | {alternative}{_cell(comments.get((*path, 2, number)))} |"
    yield ""
    for number, nested in enumerate(message.nested_type):
        if nested.name not in maps:
            yield from _message(nested, (*path, 3, number), comments)
    for number, enum in enumerate(message.enum_type):
        yield from _enum(enum, (*path, 4, number), comments, 4)


def _enum(enum: Any, path: tuple[int, ...], comments: dict[tuple[int, ...], str], level: int) -> Iterator[str]:
    yield from _heading(level, enum.name, comments.get(path))
    yield "| value | |\n|---|---|"
    for number, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {_cell(comments.get((*path, 2, number)))} |"
    yield ""


def _type(field: Any, maps: dict[str, Any]) -> str:
    name = field.type_name.rpartition(".")[2]
    if name in maps:
        key, value = maps[name].field
        return f"map of {_type(key, {})} to {_type(value, {})}"
    kind = (
        f"`{name}`" if name else descriptor_pb2.FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    )
    repeated = field.label == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    return f"repeated {kind}" if repeated else f"optional {kind}" if field.proto3_optional else kind


def _streamed(name: str, stream: bool) -> str:
    return f"{'stream of ' * stream}`{name.rpartition('.')[2]}`"


def _heading(level: int, name: str, comment: str | None) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    if comment:
        yield f"{_escaped(comment.strip())}\n"


def _cell(comment: str | None) -> str:
    return " ".join(_escaped(comment or "").split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")
