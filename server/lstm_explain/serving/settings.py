# SPDX-License-Identifier: Apache-2.0
"""Declares every setting of the server: each is a flag of `lstm-explain serve` and a variable LSTM_EXPLAIN_…."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliSuppress, SettingsConfigDict

from lstm_explain.memory_budget import memory_budget
from lstm_explain.serving.addresses import is_loopback, split_address
from lstm_explain.serving.operation_settings import OperationSettings
from lstm_explain.serving.provenance_settings import ProvenanceSettings
from lstm_explain.serving.report_settings import ReportSettings
from lstm_explain.serving.trials.trial_limits import TrialLimits, default_memory

if TYPE_CHECKING:
    from lstm_explain.repository.request_limits import Limits
    from lstm_explain.serving.models.readiness import RequiredModels

ENV_PREFIX = "LSTM_EXPLAIN_"
WEB_ADDRESS = "127.0.0.1:8080"


class Settings(OperationSettings, ProvenanceSettings, ReportSettings):
    """Serves the models of a folder over gRPC.

    Every flag is also an environment variable: --max-streams is LSTM_EXPLAIN_MAX_STREAMS. A flag takes precedence.
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
    listen: str = Field(default="127.0.0.1:50051", description="host and port for gRPC; port 0 selects a free port")
    insecure_listen: bool = Field(default=False, description="allow addresses other than loopback without TLS")
    tls_cert: Path | None = Field(
        default=None, description="PEM file with the server's certificate chain; reloaded when it changes"
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the key of --tls-cert, not encrypted")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file with the authorities that sign clients' certificates; every client must then present one",
    )
    tokens: Path | None = Field(
        default=None,
        description="file of bearer tokens with names, roles, expiry, models and quotas, as YAML, or with lines "
        "`TOKEN ROLE[,ROLE] [NAME]`, roles explain, batch and manage; reloaded when it changes",
    )
    reuse_port: bool = Field(default=False, description="let several servers listen on the same port")
    web: str | None = Field(
        default=None,
        description="host and port of the web page, which shows explanations in a browser; `--web` alone means "
        f"{WEB_ADDRESS}; without it, the page is off; needs the extra `web`",
    )
    web_hosts: str = Field(
        default="",
        description="comma-separated host names that browsers may use for the page, in addition to localhost and "
        "IP addresses",
    )
    web_patience: float = Field(
        default=30.0,
        gt=0,
        description="timeout in seconds for each of: a TLS handshake with the page, the headers of a request, its "
        "body, and a client that does not read its response",
    )
    max_web_bytes: int = Field(
        default=256 * 1024**2,
        ge=1,
        description="maximum total bytes in the bodies of all requests to the page, at least the size of the largest "
        "request; beyond it, the bodies that have been arriving for longest are refused",
    )
    workers: int = Field(
        default=1, ge=1, description="processes that serve the port, each with a part of the connections"
    )
    spare: bool = Field(
        default=True,
        description="keep one more process, with loaded models, to replace the first one that ends",
    )
    worker_patience: float = Field(
        default=10.0,
        gt=0,
        description="seconds without a heartbeat after which a worker process is killed and replaced",
    )
    worker: CliSuppress[str | None] = Field(
        default=None, description="file descriptors that connect a worker process to its parent"
    )
    gently: CliSuppress[bool] = Field(
        default=False, description="load the models at low priority, while other processes serve"
    )
    parent: CliSuppress[int | None] = Field(
        default=None, description="stop when the process with this id is no longer the parent"
    )
    announcements: CliSuppress[Path | None] = Field(
        default=None, description="file in which the processes of one server announce changes of their models"
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        description="explanations that one process computes at a time; by default, one per processor, divided among "
        "the workers, as far as memory allows",
    )
    threads: int = Field(default=1, ge=1, description="threads that one explanation may use")
    max_concurrent: int = Field(
        default=64, ge=1, description="maximum unary requests that run or wait at a time; further ones are refused"
    )
    max_streams: int = Field(default=16, ge=1, description="maximum open streams; further ones are refused")
    stream_window: int = Field(
        default=8, ge=1, description="requests of one stream that are read ahead of their responses"
    )
    stream_patience: float = Field(
        default=300.0, gt=0, description="seconds that a stream waits for its caller to send or to read before it ends"
    )
    max_batch: int = Field(default=4096, ge=1, description="maximum batch of a request; model.yaml can lower it")
    max_steps: int = Field(default=100_000, ge=1, description="maximum steps of a request; model.yaml can lower it")
    max_elements: int = Field(
        default=16_777_216, ge=1, description="maximum elements in the inputs of a request; model.yaml can lower it"
    )
    max_samples: int = Field(
        default=1_000_000,
        ge=1,
        description="maximum samples on which a request may run the model: batch times targets times the method's "
        "steps, samples, windows, or permutations times players; model.yaml can lower it",
    )
    max_targets: int = Field(default=1024, ge=1, description="maximum targets of a request; model.yaml can lower it")
    max_request_bytes_estimate: int | None = Field(
        default=None,
        ge=1,
        description="maximum memory in bytes that a request may take, by estimate; by default, the share that lets all "
        "workers compute --parallel such requests at a time in the memory of the container or machine, from 64 MiB to "
        "4 GiB; model.yaml can lower it",
    )
    max_request_seconds: float = Field(
        default=300.0,
        gt=0,
        description="seconds that the work for one request may take, however late its caller's deadline is",
    )
    stuck_seconds: float = Field(
        default=120.0,
        gt=0,
        description="seconds that cancelled work (for example, work past its deadline) may continue; after that, the "
        "process ends and another one replaces it",
    )
    max_characters: int = Field(
        default=262_144,
        ge=1,
        description="maximum characters in all texts of a request, before tokenisation; model.yaml can lower it",
    )
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1, description="maximum size of a request in bytes")
    poll_seconds: float | None = Field(
        default=None,
        gt=0,
        description="seconds between checks of the folder of models for changes; without it, there are none",
    )
    allow_import: bool = Field(
        default=False, description="allow callers to import and delete models, and to choose the versions that answer"
    )
    import_patience: float = Field(
        default=30.0, gt=0, description="seconds without a message after which an import is cancelled"
    )
    require_models: str = Field(
        default="1",
        description="what must be ready before the server is: a number of models, 0 for none (for a server that only "
        "accepts imports at first), or comma-separated names of models",
    )
    max_model_bytes: int = Field(default=1024**3, ge=1, description="maximum size of a model's files, in bytes")
    max_nodes: int = Field(
        default=50_000,
        ge=1,
        description="maximum nodes of a model after its functions are inlined, and maximum initializers",
    )
    trial_memory: int | None = Field(
        default=None,
        ge=1 << 24,
        description="memory in bytes for the trial of a model, plus 10 per byte of its files (every model is tried in "
        "a separate process before it is served); by default, an eighth of the memory of the container or machine, at "
        "most 1 GiB",
    )
    trial_cpu_seconds: float = Field(
        default=15.0,
        ge=1,
        description="seconds of processor time for a trial, plus 180 per GiB of the model's files",
    )
    trial_seconds: float = Field(
        default=60.0, ge=1, description="elapsed seconds for a trial, plus 600 per GiB of the model's files"
    )
    max_loaded_bytes: int | None = Field(
        default=None,
        ge=1,
        description="memory in bytes for loaded models, by estimate; beyond it, the least recently used models "
        "leave memory until the next request for them",
    )
    max_runtime_bytes: int | None = Field(
        default=None,
        ge=1,
        description="maximum memory in bytes that ONNX Runtime may hold in one process, including weights; by default, "
        "half of the memory of the container or machine, divided among the workers",
    )
    grace_period: float = Field(
        default=10.0, ge=0, description="seconds that running requests have to finish after SIGTERM"
    )
    drain_delay: float = Field(
        default=0.0, ge=0, description="seconds after SIGTERM between NOT_SERVING and refusing new calls"
    )
    keepalive_time: float = Field(
        default=60.0, gt=0, description="seconds without traffic after which the server pings a connection"
    )
    keepalive_timeout: float = Field(
        default=20.0,
        gt=0,
        description="seconds for the response to such a ping, and for the handshakes of a new connection (TLS, "
        "HTTP/2); after that the connection is closed",
    )
    min_ping_interval: float = Field(
        default=10.0, ge=0, description="minimum seconds between pings of a client; faster clients are disconnected"
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="maximum connections to one process, or fewer if the system's limit of open files is lower; "
        "further connections are closed at once",
    )
    max_connection_idle: float = Field(
        default=300.0,
        gt=0,
        description="seconds without a call after which a connection is closed; clients reconnect automatically",
    )
    max_connection_age: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a client is asked to reconnect, so that it finds new workers, replicas and "
        "certificates; by default never",
    )

    @property
    def limits(self) -> Limits:
        """The limits of one request."""
        from lstm_explain.repository.request_limits import Limits  # the engine, which reads --threads on import

        of = self.with_shares()
        counts = (of.max_batch, of.max_steps, of.max_elements, of.max_samples)
        return Limits(*counts, of.max_request_bytes_estimate, of.max_characters, of.max_targets)

    def with_shares(self) -> Self:
        """Returns the same, with the settings whose default depends on the available memory filled in.

        The parent does this before it starts workers, since a worker does not know of the others.
        """
        beside = self.operations_parallel if self.operations_folder is not None else 0
        share = memory_budget(self.workers, self.parallel, len(os.sched_getaffinity(0)), beside=beside)
        by_default = {
            "parallel": share.parallel,
            "max_request_bytes_estimate": share.request,
            "max_runtime_bytes": share.runtime,
        }
        return self.model_copy(update={name: n for name, n in by_default.items() if getattr(self, name) is None})

    @property
    def required_models(self) -> RequiredModels:
        """What must be ready before the server is."""
        return _required_models(self.require_models)

    @property
    def trial_results(self) -> Path | None:
        """The file in which the processes of one server share the results of trials."""
        return None if self.announcements is None else self.announcements.with_suffix(".trials")

    @property
    def quotas(self) -> Path | None:
        """The file in which the processes of one server count what callers use."""
        return None if self.announcements is None else self.announcements.with_suffix(".quotas")

    @property
    def trial_limits(self) -> TrialLimits:
        """The limits of a model's trial."""
        memory = default_memory() if self.trial_memory is None else self.trial_memory
        return TrialLimits(memory, self.trial_cpu_seconds, self.trial_seconds)

    @property
    def slots(self) -> int:
        """How many explanations one process computes at a time."""
        return cast(int, self.with_shares().parallel)

    @field_validator("models")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @field_validator("listen", "web")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("web_hosts")
    @classmethod
    def _are_host_names(cls, value: str) -> str:
        for name in value.split(","):
            if any(character in name.strip() for character in ":/* "):
                raise ValueError(f"{name.strip()!r} is not a host name: leave out scheme, port and wildcards")
        return value

    @field_validator("require_models")
    @classmethod
    def _are_required_models(cls, value: str) -> str:
        _required_models(value)
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
            raise ValueError("--tls-cert and --tls-key need each other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        for flag, address in (("--listen", self.listen), ("--web", self.web)):
            if self.tls_cert is None and not self.insecure_listen and address is not None and not is_loopback(address):
                raise ValueError(
                    f"{flag} {address} can be reached from other machines: give --tls-cert and --tls-key, "
                    "or --insecure-listen to serve without encryption"
                )
        return self


def _required_models(text: str) -> RequiredModels:
    from lstm_explain.serving.models.readiness import parse_required_models

    return parse_required_models(text)
