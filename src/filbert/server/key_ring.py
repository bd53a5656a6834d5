"""The keys of a server that runs: found by their texts, held to their limits, and what they used, kept."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from filbert.core.errors import Busy, FilbertError, Unauthorized
from filbert.core.log import log
from filbert.server.keys import BEGINNING, Key, Keys, Use, day_of, hashed, now

FRESH_S = 1.0  # so long a key that was revoked elsewhere may still come in
KEEP_EVERY_S = 1.0
MINUTE_S = 60.0


class KeyRing:
    """Used from the event loop only. Requests are counted by each server on its own, tokens for all of one store."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: dict[str, Key] = {}
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._asked: defaultdict[str, deque[float]] = defaultdict(deque)
        self._uses: dict[str, Use] = {}

    async def find(self, texts: Iterable[str]) -> Key | None:
        """The key that one of the texts is. Others' keys are no business of ours, as clients send something even to
        those who ask for nothing. Raises Unauthorized for one that looks like ours and is none."""
        ours, moment = [hashed(text) for text in texts if text.startswith(BEGINNING)], time.monotonic()
        if not ours:
            return None
        for fresh_from in (moment - FRESH_S, moment):  # a key that was made just now opens at once
            await self._refresh(fresh_from)
            for sha256 in ours:
                if key := self._known.get(sha256):
                    return key
        why = "It was revoked, or never was one."
        raise Unauthorized("This key does not open this server.", why=why, do="Ask for another.")

    def admit(self, key: Key) -> None:
        """Count a request. Raises Busy where the key has reached a limit."""
        self._check_day(key)
        if key.requests_a_minute:
            self._check_minute(key.id, key.requests_a_minute)
        self.spend(key.id, 0)

    def spend(self, id: str, tokens: int) -> None:
        before = self._uses.get(id)
        self._uses[id] = Use(now(), tokens + (before.tokens if before else 0))

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Meanwhile what is used is kept every second."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(KEEP_EVERY_S)
                await self._keep()

        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            await self._keep()
            self._keys.close()

    def _check_day(self, key: Key) -> None:
        unkept = self._uses[key.id].tokens if key.id in self._uses else 0
        if key.tokens_a_day is not None and key.tokens_today + unkept >= key.tokens_a_day:
            wait_s = _until_tomorrow_s(now())
            what = f"The key {key.name} has used its {key.tokens_a_day:,} tokens of today."
            raise Busy(what, do="Ask again after midnight UTC.", retry_after_s=wait_s)

    def _check_minute(self, id: str, most: int) -> None:
        asked, moment = self._asked[id], time.monotonic()
        while asked and asked[0] <= moment - MINUTE_S:
            asked.popleft()
        if len(asked) >= most:
            wait_s = math.ceil(asked[0] + MINUTE_S - moment)
            what = f"This key may ask {most} times a minute."
            raise Busy(what, do=f"Ask again in {wait_s} s.", retry_after_s=wait_s)
        asked.append(moment)

    async def _refresh(self, fresh_from: float) -> None:
        """Read the keys again, unless that was begun after a moment: requests that wait for it share it."""
        async with self._reading:
            if self._read_at < fresh_from:
                begun = time.monotonic()
                self._known = {key.sha256: key for key in await asyncio.to_thread(self._keys.in_use)}
                self._read_at = begun

    async def _keep(self) -> None:
        """What cannot be kept now counts on here, and is tried again."""
        if not self._uses:
            return
        uses, self._uses = self._uses, {}
        try:
            async with self._reading:
                await asyncio.to_thread(self._keys.keep, uses)
                self._known = {sha256: _with(key, uses.get(key.id)) for sha256, key in self._known.items()}
        except FilbertError as exc:
            log.warning("%s", exc)
            for id, use in uses.items():
                self.spend(id, use.tokens)


def _with(key: Key, use: Use | None) -> Key:
    return replace(key, tokens_today=key.tokens_today + use.tokens) if use else key


def _until_tomorrow_s(moment: datetime) -> int:
    tomorrow = datetime.fromisoformat(day_of(moment + timedelta(days=1))).replace(tzinfo=moment.tzinfo)
    return math.ceil((tomorrow - moment).total_seconds())
