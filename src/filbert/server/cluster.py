"""The server as a Ray Serve application: `serve run filbert.server.cluster:app model=smollm2:135m` (docs/cluster.md).

Ray decides how many machines hold the model and hands requests out; a replica is the model's workers on one machine,
with the application of `filbert serve` before them.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from filbert.core.errors import BadInput, Forbidden
from filbert.core.log import to_file
from filbert.core.settings import Settings, configured
from filbert.engine.keep_alive import FOR_EVER
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.models import store
from filbert.server import scopes
from filbert.server.app import make_app
from filbert.server.cluster_options import ClusterOptions
from filbert.server.door import refuse
from filbert.server.entry import entry_of
from filbert.server.keys import Keys
from filbert.server.offered import Offered
from filbert.server.serve_options import ServeOptions

ANYWHERE = "0.0.0.0"  # a replica cannot know who reaches Ray's proxies


def app(given: dict[str, Any]) -> Application:
    """given: fields of ClusterOptions, LoadOptions and ServeOptions by name; what is left out, each machine's settings
    say. Raises BadSetting, BadInput."""
    cluster, load, options = _records(given)
    entry_of(options)
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="filbert",
        max_ongoing_requests=load.parallel,
        max_queued_requests=options.queue or -1,
        max_replicas_per_node=1,  # its worker takes all cores
        autoscaling_config=AutoscalingConfig(
            min_replicas=cluster.min_replicas,
            max_replicas=max(cluster.min_replicas, cluster.max_replicas),
            target_ongoing_requests=load.parallel,
        ),
        ray_actor_options={"num_cpus": load.threads or 1},
        graceful_shutdown_timeout_s=options.deadline,  # no answer is cut because fewer machines are needed
    )
    return deployment.bind({**given, "parallel": load.parallel})


class Replica:
    """The model on one machine. What Ray wants of it are the two methods. Raises BadInput where it is not installed."""

    def __init__(self, given: dict[str, Any]) -> None:
        settings = configured(Settings)
        to_file(settings.log_level)
        cluster, load, self._options = _records(given)
        _check_keys(self._options)
        name = cluster.model or settings.model
        stored = store.resolve_or_pull(name) if cluster.pull else store.installed(name)
        most = int(self._options.memory_gb * 1e9) if self._options.memory_gb else None
        self._offered = Offered(Pool(load, FOR_EVER, most), only_added=True)
        self._model = self._offered.add(stored)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return _answering(make_app(self._offered, self._options))

    async def check_health(self) -> None:
        """A worker that died is started again; where that fails, Ray replaces the replica."""
        await asyncio.to_thread(self._model.wait_until_loaded)


def _records(given: dict[str, Any]) -> tuple[ClusterOptions, LoadOptions, ServeOptions]:
    load = {name: value for name, value in given.items() if name in LoadOptions.model_fields}
    options = {name: value for name, value in given.items() if name in ServeOptions.model_fields}
    cluster = {name: value for name, value in given.items() if name not in {*load, *options}}
    return (
        configured(ClusterOptions, cluster),
        configured(LoadOptions, load),
        configured(ServeOptions, {**options, "host": ANYWHERE}),
    )


def _check_keys(options: ServeOptions) -> None:
    """Raises BadInput where everybody would be refused."""
    with closing(Keys()) as keys:
        if entry_of(options).without_key is None and not keys.in_use():
            do = "`filbert keys add NAME` makes one on this machine; no_auth=true lets everybody in."
            raise BadInput("A cluster asks for keys, and there is none.", do=do)


def _answering(app: ASGIApp) -> ASGIApp:
    """The application without what changes models, which would change those of one machine; and below any prefix."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            scope = {**scope, "path": path or "/", "root_path": ""}
            if scopes.needed(scope["method"], scope["path"]) == "admin":
                error = Forbidden("A cluster only answers.", do="Use `filbert` on its machines for anything else.")
                await refuse(error, scope, receive, send)
                return
        await app(scope, receive, send)

    return answer
