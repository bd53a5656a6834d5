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
from filbert.cli.loading import present
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

    from filbert.engine.pool import Pool
    from filbert.server.app import make_app
    from filbert.server.leases import leasing
    from filbert.server.offered import Offered

    logging.getLogger("uvicorn").handlers = log.handlers  # its story belongs into our log file
    most = int(serve.memory_gb * 1e9) if serve.memory_gb else None
    with _listening(serve.port) as listener, closing(Offered(Pool(load, serve.keep_alive, most))) as offered:
        for name in model or ():
            note(offered.add(present(name, settings, load.threads)).summary, settings)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(offered, leasing(offered, url, lambda: setattr(server, "should_exit", True))),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        note(f"{url} (Ctrl-C stops it)", settings)
        with suppress(KeyboardInterrupt):  # how one stops a server
            server.run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as exc:
        raise BadInput(
            f"Port {port} cannot be used.", why=f"{exc.strerror}.", do="Name another with --port; 0 takes a free one."
        ) from exc
