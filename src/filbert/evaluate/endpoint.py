"""Another server, asked over HTTP, and asked again where it is busy or away for a moment."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from filbert.core.errors import (
    BadInput,
    BadRequest,
    Busy,
    ContextOverflow,
    FilbertError,
    UnknownRoute,
    UpstreamDown,
    UpstreamError,
)
from filbert.core.log import log
from filbert.core.other_servers import KEY, is_private, problem, server_address
from filbert.version import __version__

CONNECT_S, STALL_S = 5.0, 300.0
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before the second try, and before any
TRIES = 8
MOST_ANSWER = 64 << 20
AGAIN = {408, 429, 500, 502, 503, 504}
GOES_ON = "The same command goes on where it was."


class Endpoint:
    """url: as its clients write it, which ends in /v1; host: it, for a sentence."""

    def __init__(self, url: str, key: str = "", pause_s: float = PAUSE_S) -> None:
        """Raises BadInput for what is no address, and for a key that others could read on the way."""
        try:
            self.url = server_address(url)
            httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL) as exc:
            raise BadInput(
                "That is no address of a server.", why=f"{exc}.", do="Write --server https://box.example/v1."
            ) from exc
        if key and not KEY.fullmatch(key):
            raise BadInput("The key of the server is none.", do="Write it as one word, without quotes.")
        if key and not is_private(self.url):
            raise BadInput(
                f"The key would go to {self.url} unencrypted.", do="Use https, or the address in figures of a near one."
            )
        self.host = urlsplit(self.url).netloc
        self._key, self._pause_s = key, pause_s
        self._answered = False
        headers = {"User-Agent": f"filbert/{__version__}", "Accept-Encoding": "identity"}
        # Proxies and certificates come from the environment, but for what is not encrypted: a proxy would read it.
        self._client = httpx.AsyncClient(
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            follow_redirects=False,
            trust_env=self.url.startswith("https:"),
            timeout=httpx.Timeout(STALL_S, connect=CONNECT_S, pool=None),
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
        )

    async def post(self, route: str, body: Mapping[str, Any]) -> Any:
        """What it answers, as JSON. Where it is busy, or was there before, it is asked again for some minutes. route:
        "/v1/completions". Raises UpstreamError, Busy; BadRequest, UnknownRoute and ContextOverflow for what it
        refuses."""
        pause_s = self._pause_s
        for _ in range(TRIES - 1):
            try:
                return await self._answer(route, body)
            except _Again as exc:
                if not (self._answered or isinstance(exc.error, Busy)):
                    raise exc.error from exc
                log.warning("asking %s again: %s", self.host, exc.error)
                await asyncio.sleep(min(LONGEST_PAUSE_S, max(pause_s, exc.wait_s)))
                pause_s *= 2
        try:
            return await self._answer(route, body)
        except _Again as exc:
            raise exc.error from exc

    async def close(self) -> None:
        await self._client.aclose()

    async def _answer(self, route: str, body: Mapping[str, Any]) -> Any:
        said = b""
        try:
            async with self._client.stream("POST", self.url.removesuffix("/v1") + route, json=body) as response:
                async for piece in response.aiter_bytes():
                    said += piece
                    if len(said) > MOST_ANSWER:
                        raise self._junk(f"It has more than {MOST_ANSWER >> 20} MiB.")
        except httpx.HTTPError as exc:
            why = f"{str(exc).rstrip('.') or type(exc).__name__}."
            do = GOES_ON if self._answered else "Check the address, and that the server runs."
            raise _Again(UpstreamDown(f"{self.host} does not answer.", why=why, do=do)) from exc
        self._answered = True
        if response.status_code != 200:
            raise self._refusal(response, said)
        try:
            return json.loads(said)
        except (ValueError, RecursionError) as exc:
            raise self._junk("It is no JSON.") from exc

    def _junk(self, why: str) -> UpstreamError:
        return UpstreamError(f"{self.host} answered what cannot be used.", why=why, do="Check the address.")

    def _refusal(self, response: httpx.Response, said: bytes) -> Exception:
        status = response.status_code
        code, message = problem(said)
        message = message.replace(self._key, "…") if self._key else message
        told = f"It answered {status}" + (f": {message.rstrip('.')}." if message else ".")
        if status in AGAIN:
            wait = response.headers.get("Retry-After", "")
            return _Again(
                Busy(f"{self.host} is busy, or failed.", why=told, do=GOES_ON),
                float(wait) if re.fullmatch(r"[0-9]{1,6}", wait) else 0,
            )
        if 300 <= status < 400:
            why = f"It answered {status}, which sends on to another address; that is not followed."
            return UpstreamError(f"{self.host} does not answer itself.", why=why, do="Give the address it sends to.")
        if status in (401, 402, 403):
            return UpstreamError(
                f"{self.host} does not let you in.", why=told, do="Set FILBERT_SERVER_KEY to a key of that server."
            )
        if code == "context_length_exceeded" or "maximum context length" in message:
            return ContextOverflow(f"{self.host} has less context than a prompt needs.", why=told, do="Shorten it.")
        kind = UnknownRoute if status in (404, 405, 501) else BadRequest
        return kind(
            f"{self.host} refused what it was asked.", why=told, do="Check the address, and the model's name there."
        )


class _Again(Exception):
    """Worth another try. wait_s: what the server asked for."""

    def __init__(self, error: FilbertError, wait_s: float = 0) -> None:
        super().__init__(str(error))
        self.error, self.wait_s = error, wait_s
