"""`filbert serve`: one server for other programs, the command line and Python."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.completion import installed_names
from filbert.cli.console import note, patience, say
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import consent, present
from filbert.core import paths
from filbert.core.errors import BadInput, EngineError
from filbert.core.log import log
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions
from filbert.server.serve_options import ServeOptions
from filbert.server.upstreams.options import UpstreamOptions

if TYPE_CHECKING:
    from filbert.engine.lease import Said
    from filbert.engine.slots import Apart

POLL_S = 0.1
NAMED = "Load this model at once, and keep it. May be repeated."


class Ask(StrEnum):
    status = "status"
    stop = "stop"


@with_options(ServeOptions, LoadOptions)
def serve(
    serve: ServeOptions,
    load: LoadOptions,
    settings: Settings,
    ask: Annotated[
        Ask | None, typer.Argument(help="Of the server that runs: tell where it listens, or end it.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Load this model at once, and keep it. May be repeated.",
            autocompletion=installed_names,
        ),
    ] = None,
    background: Annotated[bool, typer.Option("--background", help="Return as soon as the server listens.")] = False,
) -> None:
    """Serve models over HTTP, as OpenAI, Anthropic and Ollama do. It listens on 127.0.0.1 unless told otherwise, and
    offers every model that is here. The command line and Python use its models meanwhile, instead of loading them
    twice."""
    if ask is Ask.status:
        say(_running()["url"])
    elif ask is Ask.stop:
        _stop(settings)
    elif background:
        _in_background(settings)
    else:
        _in_foreground(serve, load, settings, model or [])


def _in_foreground(serve: ServeOptions, load: LoadOptions, settings: Settings, models: list[str]) -> None:
    import uvicorn

    from filbert.engine.pool import Pool
    from filbert.server.app import make_app
    from filbert.server.connections import BoundedConnection
    from filbert.server.draining import DrainingServer
    from filbert.server.leases import leasing
    from filbert.server.offered import Offered
    from filbert.server.readiness import Readiness
    from filbert.server.start import Start
    from filbert.server.upstreams.registry import Upstreams

    logging.getLogger("uvicorn").handlers = log.handlers  # its story belongs into our log file
    most = int(serve.memory_gb * 1e9) if serve.memory_gb else None
    if serve.fetch_images and settings.offline:
        raise BadInput("--fetch-images needs the network, and --offline forbids it.", do="Leave one of them out.")
    pool = Pool(load, serve.keep_alive, most, apart=_checked_entry(serve, settings))
    with (
        _listening(serve) as listener,
        closing(Offered(pool, upstreams=Upstreams(_allowed(serve, settings)))) as offered,
    ):
        wanted = [present(name, settings, load.threads, consent(settings)) for name in models]
        url, readiness = _url(serve, listener.getsockname()[1]), Readiness(loading=bool(wanted))

        def stop() -> None:
            server.should_exit = True

        start = Start(offered, wanted, readiness, lambda text: note(text, settings), stop)
        sharing = start.then(leasing(offered, url, stop), f"{url} (Ctrl-C stops it)")
        server = DrainingServer(
            uvicorn.Config(
                make_app(offered, serve, readiness, sharing),
                http=BoundedConnection,
                ws="none",
                ssl_certfile=serve.tls_cert or None,
                ssl_keyfile=serve.tls_key or None,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            ),
            readiness,
            serve.drain,
            lambda: any(each.model.children.counts[0] for each in offered.pool.loaded()),
        )
        with suppress(KeyboardInterrupt):  # how one stops a server
            server.run(sockets=[listener])
        if start.error:
            raise start.error


def _in_background(settings: Settings) -> None:
    """The same command without the flag, in a session of its own. Raises BadInput where a server runs already, and what
    the server says when it ends before it listens."""
    from filbert.engine.lease import running_server

    if found := running_server():
        raise BadInput(f"A server runs already: {found['url']}", do="`filbert serve stop` ends it.")
    command = [sys.argv[0], *(word for word in sys.argv[1:] if word != "--background")]
    said = paths.log_file().with_name("serve.log")
    said.parent.mkdir(parents=True, exist_ok=True)
    with said.open("wb") as output, patience("starting the server", settings):
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        while not (found := running_server()):
            if child.poll() is not None:
                raise EngineError(_last_line(said.read_text("utf-8", "replace")), do=f"{said} holds all it said.")
            time.sleep(POLL_S)
    say(found["url"])


def _stop(settings: Settings) -> None:
    from filbert.engine.lease import ask_server, running_server

    _running()
    ask_server({"do": "end"})
    with patience("waiting for the server", settings):
        while running_server():
            time.sleep(POLL_S)
    note("The server has ended.", settings)


def _running() -> Said:
    from filbert.engine.lease import running_server

    if found := running_server():
        return found
    raise BadInput("No server runs.", do="`filbert serve --background` starts one.")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "The server ended before it listened."


def _checked_entry(serve: ServeOptions, settings: Settings) -> Apart:
    """Whether those who come in are kept apart. Raises BadInput where the server could be reached by those who should
    not."""
    from filbert.core.addresses import is_loopback
    from filbert.server.entry import check_start
    from filbert.server.keys import Keys

    with closing(Keys()) as keys:
        check_start(serve, keys)
        has_many = len(keys.in_use()) > 1
    if not is_loopback(serve.host):
        if serve.no_auth:
            note(f"warning: without keys, whoever reaches {serve.host} may use every model here.", settings)
        if not serve.tls_cert:
            what = "warning: keys and chats pass the network as plain text: --tls-cert and --tls-key hide them."
            note(what, settings)
    return "never" if serve.share_cache else "always" if has_many else "once_two_ask"


def _allowed(serve: ServeOptions, settings: Settings) -> Mapping[str, UpstreamOptions]:
    """The other servers that may be asked, each told, since nothing leaves this machine unasked."""
    if serve.upstream and settings.offline:
        note(f"Offline: {', '.join(serve.upstream)} cannot be asked.", settings)
        return {}
    for name, each in serve.upstream.items():
        leaving = "are answered at" if each.is_here else "leave this machine, for"
        note(f"warning: prompts for models called {name}/… {leaving} {each.place}.", settings)
    return serve.upstream


def _url(serve: ServeOptions, port: int) -> str:
    """Where this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serve.host, serve.host)
    return f"{'https' if serve.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _listening(serve: ServeOptions) -> socket.socket:
    host = "127.0.0.1" if serve.host.lower() == "localhost" else serve.host  # whatever else that name is told to be
    try:
        return socket.create_server((host, serve.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as exc:
        why = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise BadInput(
            f"Port {serve.port} cannot be used on {host}.",
            why=f"{why}.",
            do="Name another with --port (0 takes a free one) or --host.",
        ) from exc
