"""Every setting of the server: a flag of `lstm-explain serve`, or an environment variable LSTM_EXPLAIN_… ."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliSuppress, SettingsConfigDict

from lstm_explain.kernels.cache import COMPILED_FOR
from lstm_explain.memory_budget import memory_budget
from lstm_explain.serving.trials.limits import TrialLimits, default_memory

if TYPE_CHECKING:
    from lstm_explain.repository.request_limits import Limits
    from lstm_explain.serving.models.readiness import RequiredModels

ENV_PREFIX = "LSTM_EXPLAIN_"
WEB_ADDRESS = "127.0.0.1:8080"


class Settings(BaseSettings):
    """Serves the models of a folder over gRPC.

    Every flag can be given as an environment variable too: --max-streams as LSTM_EXPLAIN_MAX_STREAMS. A flag wins.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        cli_prog_name="lstm-explain serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    models: Path = Field(
        description="folder of models: DIR/<model>/<version>/model.onnx and DIR/<model>/model.yaml, or DIR/<model>.onnx"
    )
    listen: str = Field(default="127.0.0.1:50051", description="host and port for gRPC; port 0 takes a free one")
    insecure_listen: bool = Field(
        default=False, description="without TLS, listen on other addresses than loopback all the same"
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file with the server's certificate chain; read anew when it changes"
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the key of --tls-cert, not encrypted")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file with the authorities that sign clients' certificates, which are then wanted of everybody",
    )
    tokens: Path | None = Field(
        default=None,
        description="file with lines `TOKEN ROLE[,ROLE] [NAME]`, roles explain and manage; read anew when it changes",
    )
    reuse_port: bool = Field(default=False, description="let several processes listen on the same port")
    metrics_listen: str | None = Field(
        default=None, description="host and port for Prometheus metrics; none without it"
    )
    web: str | None = Field(
        default=None,
        description="host and port of the page on which a person explains by hand; `--web` alone is "
        f"{WEB_ADDRESS}, none without it; takes the extra web",
    )
    web_hosts: str = Field(
        default="",
        description="names, with commas between, by which browsers may ask for the page, beside localhost and IP "
        "addresses",
    )
    web_patience: float = Field(
        default=30.0,
        gt=0,
        description="seconds in which the TLS handshake of a connection to the page, the headers of a request, and "
        "then its body have to arrive, and in which a client has to take some of an answer",
    )
    max_web_bytes: int = Field(
        default=256 * 1024**2,
        ge=1,
        description="most bytes that all bodies of requests to the page hold together, and never less than the largest "
        "request; beyond it those that have been arriving for longest are refused",
    )
    workers: int = Field(default=1, ge=1, description="processes behind the port; connections are spread over them")
    spare: bool = Field(
        default=True,
        description="keep one process more, with its models loaded, that takes the place of the first that ends",
    )
    worker_patience: float = Field(
        default=10.0,
        gt=0,
        description="seconds without a sign of life after which a process behind the port is killed and replaced",
    )
    worker: CliSuppress[str | None] = Field(
        default=None, description="file descriptors through which a process of one server is led by its parent"
    )
    gently: CliSuppress[bool] = Field(
        default=False, description="load the models at low priority: others serve meanwhile"
    )
    parent: CliSuppress[int | None] = Field(
        default=None, description="stop when the process of this id is not the parent any more"
    )
    announcements: CliSuppress[Path | None] = Field(
        default=None, description="file through which the processes of one server tell each other of model changes"
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        description="explanations that one process computes at a time; without it one for each processor, all workers "
        "together, as far as memory goes",
    )
    threads: int = Field(default=1, ge=1, description="threads that one explanation may use")
    max_concurrent: int = Field(default=64, ge=1, description="unary requests at work or waiting; more are refused")
    max_streams: int = Field(default=16, ge=1, description="open streams; more are refused")
    stream_window: int = Field(
        default=8, ge=1, description="requests of one stream that are read ahead of their answers"
    )
    stream_patience: float = Field(
        default=300.0,
        gt=0,
        description="seconds that a stream waits for its caller to send a request or to take an answer before it ends",
    )
    max_batch: int = Field(default=4096, ge=1, description="largest batch of a request; model.yaml can lower it")
    max_steps: int = Field(default=100_000, ge=1, description="most time steps of a request; model.yaml can lower it")
    max_elements: int = Field(
        default=16_777_216, ge=1, description="most elements in all inputs of a request; model.yaml can lower it"
    )
    max_samples: int = Field(
        default=1_000_000,
        ge=1,
        description="most samples on which one request may run the model: its batch times the method's steps, samples, "
        "windows, or permutations times players; model.yaml can lower it",
    )
    max_request_bytes_estimate: int | None = Field(
        default=None,
        ge=1,
        description="most memory that a request may take, by estimate; without it, as much as lets all workers compute "
        "--parallel such requests at a time in the memory of the container or machine, from 64 MiB to 4 GiB; "
        "model.yaml can lower it",
    )
    max_request_seconds: float = Field(
        default=300.0,
        gt=0,
        description="seconds that the work for one request may take, however long its caller would wait",
    )
    stuck_seconds: float = Field(
        default=120.0,
        gt=0,
        description="seconds after which the process ends, so that another one takes its place, if work that was told "
        "to stop (at its deadline, say) has not",
    )
    max_characters: int = Field(
        default=262_144,
        ge=1,
        description="most characters in all texts of a request, before they become tokens; model.yaml can lower it",
    )
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1, description="largest request")
    poll_seconds: float | None = Field(
        default=None, gt=0, description="seconds between looks at the folder of models for changes; none without it"
    )
    allow_import: bool = Field(default=False, description="let callers import models into the folder and delete them")
    import_patience: float = Field(
        default=30.0, gt=0, description="seconds that an import may go without a message before it is cancelled"
    )
    require_models: str = Field(
        default="1",
        description="what has to be ready before the server is: a number of models, 0 for none (a server that only "
        "takes imports at first), or the names of models with commas between",
    )
    max_model_bytes: int = Field(default=1024**3, ge=1, description="largest model, by the size of its files")
    max_nodes: int = Field(
        default=50_000, ge=1, description="most nodes of a model, its functions inlined, and most initializers"
    )
    trial_memory: int | None = Field(
        default=None,
        ge=1 << 24,
        description="bytes that a model may take in its trial, which every model goes through in a process of its own "
        "before it is served, beside 10 for each byte of its files; without it, an eighth of the container's or "
        "machine's memory, at most 1 GiB",
    )
    trial_cpu_seconds: float = Field(
        default=15.0,
        ge=1,
        description="seconds of processor time for a trial, and 180 for each GiB of the model's files",
    )
    trial_seconds: float = Field(
        default=60.0, ge=1, description="seconds for a trial, and 600 for each GiB of the model's files"
    )
    max_loaded_bytes: int | None = Field(
        default=None,
        ge=1,
        description="memory for loaded models, by estimate; the least recently used leave until they are asked for",
    )
    max_runtime_bytes: int | None = Field(
        default=None,
        ge=1,
        description="most memory that ONNX Runtime may hold in one process, weights included; without it, half of the "
        "container's or machine's, shared out among the workers",
    )
    grace_period: float = Field(
        default=10.0, ge=0, description="seconds that requests at work get to finish on SIGTERM"
    )
    drain_delay: float = Field(
        default=0.0, ge=0, description="seconds on SIGTERM between NOT_SERVING and refusing new calls"
    )
    keepalive_time: float = Field(
        default=60.0, gt=0, description="seconds without traffic after which a connection is asked whether it is alive"
    )
    keepalive_timeout: float = Field(
        default=20.0,
        gt=0,
        description="seconds for the answer to that, and for a new connection to say what it is (TLS, HTTP/2), after "
        "which it is closed",
    )
    min_ping_interval: float = Field(
        default=10.0, ge=0, description="seconds between two such questions of a client, at least; others are cut off"
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="connections to one process; more are closed at once. Fewer where the system allows the process "
        "fewer files",
    )
    max_connection_idle: float = Field(
        default=300.0,
        gt=0,
        description="seconds without a call after which a connection is closed; clients connect anew by themselves",
    )
    max_connection_age: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a client is asked to connect anew, so that it finds new workers, replicas and "
        "certificates; never without it",
    )
    traces: bool = Field(
        default=False,
        description="send OpenTelemetry traces, to where OTEL_EXPORTER_OTLP_ENDPOINT says; takes the extra otel",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="how the log is written, to stderr")

    @property
    def limits(self) -> Limits:
        """How much one request may ask for."""
        from lstm_explain.repository.request_limits import Limits  # the engine, which reads --threads as it is imported

        most_bytes = self.with_shares().max_request_bytes_estimate
        return Limits(
            self.max_batch, self.max_steps, self.max_elements, self.max_samples, most_bytes, self.max_characters
        )

    def with_shares(self) -> Self:
        """The same with numbers where the memory that there is decides: to be asked before workers are started, each of
        which knows of itself only.
        """
        share = memory_budget(self.workers, self.parallel, len(os.sched_getaffinity(0)))
        by_default = {
            "parallel": share.parallel,
            "max_request_bytes_estimate": share.request,
            "max_runtime_bytes": share.runtime,
        }
        return self.model_copy(update={name: n for name, n in by_default.items() if getattr(self, name) is None})

    @property
    def required(self) -> RequiredModels:
        """What has to be ready before the server is."""
        return _required(self.require_models)

    @property
    def verdicts(self) -> Path | None:
        """The file in which the processes of one server keep what trials have found."""
        return None if self.announcements is None else self.announcements.with_suffix(".verdicts")

    @property
    def trial_bounds(self) -> TrialLimits:
        """Of the trial of a model."""
        memory = default_memory() if self.trial_memory is None else self.trial_memory
        return TrialLimits(memory, self.trial_cpu_seconds, self.trial_seconds)

    @property
    def slots(self) -> int:
        slots = self.with_shares().parallel
        assert slots is not None
        return slots

    @field_validator("models")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @field_validator("listen", "metrics_listen", "web")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("web_hosts")
    @classmethod
    def _are_names(cls, value: str) -> str:
        for name in value.split(","):
            if any(character in name.strip() for character in ":/* "):
                raise ValueError(f"{name.strip()!r} is no name; without scheme, port and wildcards")
        return value

    @field_validator("require_models")
    @classmethod
    def _are_required(cls, value: str) -> str:
        _required(value)
        return value

    @field_validator("tls_cert", "tls_key", "tls_client_ca", "tokens")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca takes --tls-cert and --tls-key")
        for flag, address in (("--listen", self.listen), ("--web", self.web)):
            if self.tls_cert is None and not self.insecure_listen and address is not None and not is_loopback(address):
                raise ValueError(
                    f"{flag} {address} can be reached from other machines: give --tls-cert and --tls-key, "
                    "or --insecure-listen to serve without encryption"
                )
        return self


def _required(text: str) -> RequiredModels:
    from lstm_explain.serving.models.readiness import required_of

    return required_of(text)


def complete(arguments: Sequence[str]) -> list[str]:
    """The command line with the address that `--web` stands for where none follows it."""
    words = list(arguments)
    for i, word in enumerate(words):
        if word == "--web" and (i + 1 == len(words) or words[i + 1].startswith("-")):
            words[i] = f"--web={WEB_ADDRESS}"
    return words


def unknown_variables() -> list[str]:
    """Environment variables that look like a setting and are none: misspelt, most likely."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {COMPILED_FOR}
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `host:port`."""
    host = split_address(address)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; IPv6 as `[::1]:50051`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def explain_problem(error: ValidationError) -> str:
    """The first problem in one line, with the flag."""
    problem = error.errors(include_url=False)[0]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    return f"--{'.'.join(str(part) for part in problem['loc']).replace('_', '-')}: {message}"
