"""How the server listens."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from filbert.core.settings import Options
from filbert.server.upstreams.options import UpstreamName, UpstreamOptions, as_table


def _origin(given: str) -> str:
    if not re.fullmatch(r"https?://[^/\s*]+", good := given.lower().removesuffix("/")):
        raise ValueError("it is a site as browsers name it, https://app.example or http://localhost:3000")
    return good


Origin = Annotated[str, AfterValidator(_origin)]


class ServeOptions(Options):
    table: ClassVar[str] = "serve"

    keep_alive: float = Field(
        300, ge=-1, description="Seconds that a model stays in memory after its last use; -1 for good, 0 not at all."
    )
    memory_gb: float | None = Field(
        None, gt=0, description="Memory that all models may take, in GB. Left out: what is free."
    )
    queue: int = Field(64, ge=0, description="Requests that may wait for a model; more are told to come back.")
    deadline: float = Field(1800, gt=0, description="Seconds after which an answer ends, its wait included.")
    drain: float = Field(
        10, ge=0, description="Seconds that answers under way have left when the server is told to end."
    )
    keep_responses: bool = Field(
        False, description="Keep responses (/v1/responses) on disk for 30 days, instead of an hour in memory."
    )
    fetch_images: bool = Field(
        False, description="Fetch images that requests name by an address of the web, from public hosts only."
    )
    share_cache: bool = Field(
        False,
        description="Let answers build upon the prompts of all keys: faster, but one may find out what another asked.",
    )
    port: int = Field(4891, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen at; beyond this machine it needs a key.",
    )
    require_key: bool = Field(False, description="Ask for a key on this machine, too.")
    no_auth: bool = Field(False, description="Listen beyond this machine without keys: whoever reaches it may use it.")
    upstream: Annotated[dict[UpstreamName, UpstreamOptions], BeforeValidator(as_table)] = Field(
        {},
        description="Another server whose models stand beside ours, as NAME=URL; `[serve.upstream.NAME]` says more.",
    )
    allow_host: tuple[str, ...] = Field((), description="A name by which clients call this server, as my-box.lan.")
    allow_origin: tuple[Origin, ...] = Field((), description="A site whose pages may use it, as https://app.example.")
    tls_cert: str = Field("", description="File with the certificate to speak HTTPS with, and its chain, as PEM.")
    tls_key: str = Field("", description="File with the key of that certificate, as PEM.")
