"""`filbert serve`: OpenAI's protocol on loopback."""

from __future__ import annotations

from typing import Annotated

import typer

from filbert.cli.console import note
from filbert.cli.loading import present
from filbert.cli.options import with_options
from filbert.core.settings import Settings
from filbert.engine.options import LoadOptions
from filbert.server.options import ServeOptions


@with_options(ServeOptions, LoadOptions)
def serve(
    serve: ServeOptions,
    load: LoadOptions,
    settings: Settings,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Load this model at once; may be repeated.")
    ] = None,
) -> None:
    """Answer OpenAI's HTTP protocol on 127.0.0.1, for every model that is here."""
    import uvicorn

    from filbert.server.app import make_app

    names = tuple(present(name, settings).name for name in model or ())
    config = uvicorn.Config(make_app(load, names), host="127.0.0.1", port=serve.port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    note(f"http://127.0.0.1:{socket.getsockname()[1]}/v1 (Ctrl-C stops it)", settings)
    server.run(sockets=[socket])
