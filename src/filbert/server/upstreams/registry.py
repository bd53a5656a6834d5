"""All other servers, and the models that they offer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from filbert.server.upstreams.model import RemoteModel
from filbert.server.upstreams.options import UpstreamOptions
from filbert.server.upstreams.upstream import Upstream

FIRST_LOOK_S = 3.0  # so long the start waits for their lists


class Upstreams:
    """By name. What is known of them may be read from any thread."""

    def __init__(self, options: Mapping[str, UpstreamOptions]) -> None:
        """Raises BadSetting for a key that is not there."""
        self._all = {name: Upstream(name, each) for name, each in options.items()}

    @asynccontextmanager
    async def looked_after(self) -> AsyncIterator[None]:
        """Meanwhile each is asked for its models in the background, apart from the others."""
        looked = [asyncio.Event() for _ in self._all]
        tasks = [asyncio.create_task(each.look_after(event)) for each, event in zip(self.all, looked, strict=True)]
        async with AsyncExitStack() as closing:
            for each in self.all:
                closing.push_async_callback(each.close)
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK_S):
                    for event in looked:
                        await event.wait()
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def all(self) -> Sequence[Upstream]:
        return list(self._all.values())

    def known(self) -> list[RemoteModel]:
        """Every model of each, as it was last told."""
        return [RemoteModel(each, id) for each in self.all for id in each.models or ()]

    def named(self, name: str) -> RemoteModel | None:
        """NAME/model, also as Ollama's clients write it; of a server that did not tell yet what it has, any model."""
        server, _, id = name.partition("/")
        upstream = self._all.get(server)
        if upstream is None or not id:
            return None
        if upstream.models is None:
            return RemoteModel(upstream, id)
        ours = (each for each in (id, id.removesuffix(":latest")) if each in (upstream.models or ()))
        return next((RemoteModel(upstream, each) for each in ours), None)

    def server_of(self, name: str) -> str:
        """The server that a model is on, by the model's name; "" for one that is here."""
        server, sign, _ = name.partition("/")
        return server if sign and server in self._all else ""

    def told(self) -> list[dict[str, Any]]:
        """Each for a person of this machine."""
        return [
            {
                "name": each.name,
                "url": each.options.url,
                "models": [f"{each.name}/{id}" for id in each.models or ()],
                "trouble": each.trouble,
                "in_use": each.admission.counts[0],
            }
            for each in self.all
        ]
