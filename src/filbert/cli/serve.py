"""`filbert serve`: OpenAI's protocol on loopback."""

from __future__ import annotations

import logging
import socket
from contextlib import closing, suppress
from typing import Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.core.errors import BadInput
from filbert.core.log import log
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions
from filbert.server.serve_options import ServeOptions

GRACE_S = 3  # answers under way may end within it when the server is told to


@with_options(ServeOptions, LoadOptions)
def serve(
    serve: ServeOptions,
    load: LoadOptions,
    settings: Settings,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Load this model at once. May be repeated.", autocompletion=installed_names),
    ] = None,
) -> None:
    """Answer OpenAI's HTTP protocol. It listens on 127.0.0.1 only, and offers every model that is here."""
    import uvicorn

    from filbert.server.app import make_app
    from filbert.server.loaded import Loaded

    logging.getLogger("uvicorn").handlers = log.handlers  # its story belongs into our log file
    with _listening(serve.port) as listener, closing(Loaded(load)) as loaded:
        for name in model or ():
            note(loaded.add(present(name, settings, load.threads, consent(settings))).summary, settings)
        config = uvicorn.Config(
            make_app(loaded),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        note(f"http://127.0.0.1:{listener.getsockname()[1]}/v1 (Ctrl-C stops it)", settings)
        with suppress(KeyboardInterrupt):  # how one stops a server
            uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as exc:
        raise BadInput(
            f"Port {port} cannot be used.", why=f"{exc.strerror}.", do="Name another with --port; 0 takes a free one."
        ) from exc
