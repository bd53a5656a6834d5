"""One model for text, embeddings, ranking and scores, over the children that run it.

A child is started for what is asked: text is answered by one worker, embeddings by another, scores by a scorer. The
weights are memory-mapped, so they share its pages. A child that dies or hangs is replaced at the next request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from filbert.core.errors import BadInput, EngineCrashed, EngineStalled
from filbert.core.messages import Message, flatten, turns
from filbert.core.settings import Settings, configured
from filbert.engine import speculation
from filbert.engine.admission import NOBODY, Place
from filbert.engine.bounds import (
    Input,
    conversation_bound,
    input_bound,
    listed,
    need_context,
    need_messages,
    text_bound,
    text_bytes,
)
from filbert.engine.budget import OF_THIS_PROCESS, Budget
from filbert.engine.children import Children
from filbert.engine.echo import Echo, echoes
from filbert.engine.generation import Generation
from filbert.engine.infill import infill_prompt
from filbert.engine.lease import Lease, Leased, lease
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import Kind, LoadPlan, Role, need_kind
from filbert.engine.pooled import Embedding, Embeddings, Pooled, Ranked, Ranking
from filbert.engine.relay import RelayedAnswer, relay
from filbert.engine.sampling import Sampling
from filbert.engine.schema import Schema
from filbert.engine.schema_guided import guided
from filbert.engine.sight import n_images, need_sight
from filbert.engine.slots import Apart, Marks, marks_of
from filbert.engine.spelling import spelled
from filbert.engine.thinking import Thinking, think_fields, thinking_of
from filbert.engine.tool_calls import CallReader, reader
from filbert.engine.tools import NO_TOOLS, Tool, ToolUse, tool_use
from filbert.engine.transport import Event, Exchange, overflow, refusal
from filbert.engine.waiting import Threads, need_time
from filbert.models import catalogue
from filbert.models.preset import with_preset
from filbert.models.store import StoredModel

if TYPE_CHECKING:
    from filbert.engine.score_and_perplexity import Perplexity, Scored
    from filbert.engine.scorer import Scorer

CHAT = "/v1/chat/completions"
SLOWEST_PROMPT = 10  # tokens a second
MOST_WAITED = 8  # calls at once that count tokens, or wait for a child to load
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to be sent once `tokens` of the context are free for it. more_s: how much longer than the usual
    the engine may be silent, as it is over an image; marks: of the prompt, by which one that goes on from it is known.
    """

    role: Role
    route: str
    body: Mapping[str, Any]
    tokens: int
    more_s: float = 0
    marks: Marks = ()

    def at(self, place: Place) -> Prepared:
        """As it is sent once its place is reached."""
        return replace(self, body={**self.body, **place.engine_fields})


class Model:
    """A model whose children start when they are needed. Close it, or use it in a `with`; at exit, and when the
    caller dies, its children end."""

    def __init__(
        self,
        stored: StoredModel,
        options: LoadOptions | None = None,
        budget: Budget = OF_THIS_PROCESS,
        lease: Lease | None = None,
        apart: Apart = "never",
    ) -> None:
        """budget: the memory it shares with others; lease: the server whose children it uses instead of its own; apart:
        whether what one owner asked is kept from the others."""
        self.stored = stored
        self.name = stored.name
        self.options = with_preset(options or configured(LoadOptions), stored.preset)
        self._plan = LoadPlan(stored, self.options, budget.memory())
        self.header = self._plan.header
        self.kind = self._plan.kind
        self.threads = self._plan.threads
        self.context = self._plan.context
        self.children = Leased(self._plan, lease) if lease else Children(self._plan, budget, apart)
        self._threads = Threads(MOST_WAITED)

    @classmethod
    def shared(cls, stored: StoredModel, options: LoadOptions | None = None) -> Self:
        """Over the children of a running server of the same store, where there is one and no setting forbids it."""
        wanted = options or configured(LoadOptions)
        found = None if configured(Settings).no_server else lease(stored, wanted)
        return cls(stored, found.options if found else wanted, lease=found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.children.close()

    @property
    def prompt_cache_mib(self) -> int:
        return self._plan.prompt_cache_mib

    @property
    def summary(self) -> str:
        """What a person is told at load."""
        trained = self.header.context_length
        of = f" of {trained} trained" if trained and self.kind == "text" else ""
        asked = self.options.context
        more = f" ({asked} asked, more than it was trained with)" if asked and asked > self.context else ""
        preset = self.stored.preset
        stands_for = f" ({preset.stands_for})" if preset and preset.is_stand_in else ""
        by = ", by the running server" if isinstance(self.children, Leased) else ""
        return f"{self.name}{stands_for}: context {self.context} tokens{of}{more}, {self.threads} threads{by}"

    def wait_until_loaded(self) -> None:
        """Raises BadModelFile when the engine cannot load the file. A model that could not be loaded is closed."""
        try:
            self.children.socket(self.kind)
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> None:
        """Do once what the first who asks would wait for: touch the weights, make what is made once. A chat template
        that refuses a lone question is no reason to fail."""
        if self.kind == "embedding":
            self.embed(["Hi"])
        elif self.kind == "rerank":
            self.rerank("Hi", ["Hi"])
        else:
            with suppress(BadInput):
                asked = self.prepare_chat([Message("user", "Hi")], configured(Sampling, {"max_tokens": 1}))
                self._generate(asked, owner=NOBODY).reply()

    # Text

    def respond(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        tools: Iterable[Tool] = (),
        tool_choice: str = "auto",
        parallel_tool_calls: bool | None = None,
    ) -> Generation:
        """Answer a conversation, rendered by the model's own chat template. Calls of tools are only told.
        tool_choice: auto, none, required, or the name of a tool. Raises ContextOverflow, BadInput."""
        use = tool_use(tools, tool_choice, parallel_tool_calls)
        return self._generate(self.prepare_chat(messages, sampling or configured(Sampling), use), reader(use))

    def complete(self, prompt: str, sampling: Sampling | None = None) -> Generation:
        """Go on from `prompt` as it stands, without a chat template. Raises ContextOverflow."""
        return self._generate(self.prepare_text(prompt, sampling or configured(Sampling)))

    def prompt_bound(self, messages: Sequence[Message], use: ToolUse = NO_TOOLS) -> int:
        """More tokens than the conversation can have, without counting. Raises BadInput for text that is none."""
        return self._bound(use.body(self.conversation(messages), self.chat_template))

    def count_tokens(
        self, messages: Sequence[Message], use: ToolUse = NO_TOOLS, sampling: Sampling | None = None
    ) -> int:
        """Prompt tokens of a conversation as it would be sent, chat template included. Raises ContextOverflow for one
        so long that the engine is not asked."""
        body, _ = self._chat_body(messages, sampling or configured(Sampling), use)
        return self._count(CHAT, body)

    @property
    def chat_template(self) -> str:
        """The one a person gave, else the file's."""
        return self.options.template or self.header.chat_template or ""

    @property
    def system(self) -> str:
        """The system message of a conversation that has none of its own, by the model's preset."""
        return self.stored.preset.system if self.stored.preset else ""

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """What the model is told: the system message of its preset where the conversation has none, the preset's
        example turns, and the conversation. Raises BadInput for an image it cannot see."""
        need_sight(self.stored, messages)
        preset = self.stored.preset
        if preset is None:
            return list(messages)
        head, rest = turns(messages)
        head = head or ([Message("system", self.system)] if self.system else [])
        return flatten([*head, *(Message(each.role, each.content) for each in preset.examples)], rest)

    def settled(self, sampling: Sampling | None = None) -> Sampling:
        """How an answer is chosen, the model's preset included."""
        return with_preset(sampling or configured(Sampling), self.stored.preset)

    @cached_property
    def thinking(self) -> Thinking | None:
        """How the model thinks before it answers; None when it does not."""
        return thinking_of(self.chat_template)

    def _bound(self, body: Mapping[str, Any]) -> int:
        if "tools" in body:  # how much a template says about them is anyone's guess: then the tokens are counted
            return max(self.context, conversation_bound(body["messages"], self.chat_template))
        return conversation_bound(body["messages"], self.chat_template)

    def _generate(self, prepared: Prepared, calls: CallReader | None = None, owner: str = "") -> Generation:
        prepared = replace(prepared, body={**prepared.body, **STREAMED})

        def send(place: Place) -> Exchange:
            return self.children.send(prepared.role, prepared.route, prepared.at(place).body, prepared.more_s)

        return Generation(lambda: self.admit(prepared, owner), send, calls)

    def prepare_chat(self, messages: Sequence[Message], sampling: Sampling, use: ToolUse = NO_TOOLS) -> Prepared:
        """What to send for a conversation. Raises ContextOverflow, BadInput."""
        self.need("text")
        if use.tools:
            need_time()
        body, held = self._chat_body(messages, sampling, use)
        return self.prepare(CHAT, body, held, self._bound(body), use)

    def _chat_body(
        self, messages: Sequence[Message], sampling: Sampling, use: ToolUse
    ) -> tuple[dict[str, Any], Sampling]:
        """What the prompt is made of, and what the answer is held to."""
        held = use.held(self.settled(sampling))
        body = use.body(self.conversation(messages), self.chat_template, held)
        return body | think_fields(self.name, self.thinking, held), held

    def prepare_text(self, prompt: Input, sampling: Sampling, suffix: str = "") -> Prepared:
        """What to send to go on from a text, or from its tokens, as it stands; with a suffix, to write what stands
        before that. Raises ContextOverflow, BadInput."""
        self.need("text")
        bound = input_bound(prompt)
        if not isinstance(prompt, str):
            self.need_tokens(prompt)
        elif suffix:
            need_time()
            prompt = infill_prompt(self, prompt, suffix)
            bound = input_bound(prompt)
        return self.prepare("/v1/completions", {"prompt": prompt}, sampling, bound)

    def prepare(
        self, route: str, body: Mapping[str, Any], sampling: Sampling, size: int, use: ToolUse = NO_TOOLS
    ) -> Prepared:
        """What to send for a request whose prompt has at most `size` tokens. Raises ContextOverflow."""
        sampling = self.settled(sampling)
        if sampling.json_schema is not None:
            need_time()
        role: Role = "text" if self.options.speculation == "off" or speculation.keeps(sampling) else "plain"
        answer = sampling.max_tokens or self.context // self.options.parallel
        if size + answer > self.context:  # a token has one byte at least: only now could it overflow
            size = self._count(route, body)
            if size >= self.context:
                raise overflow(size, self.context, self.header.context_length)
            answer = min(answer, self.context - size)
        recommended = {} if sampling.chooses else self._recommended_sampling
        held = use.within(sampling, answer)
        whole = {
            **body,
            **recommended,
            **sampling.to_engine(),
            **spelled(held, chat=route == CHAT),
            **(self._guided_fields(held.json_schema) if use.required and held.json_schema else {}),
            "max_tokens": answer,
        }
        more_s = n_images(body) * self.options.image_tokens / SLOWEST_PROMPT
        return Prepared(role, route, whole, size + answer, more_s, marks_of(body))

    def _guided_fields(self, schema: Schema) -> dict[str, Any]:
        """A call that must be is held by a grammar of ours where the engine's is too wide. A thought comes before the
        call, and only the engine's lets it."""
        grammar = guided(schema) if self.thinking is None else None
        return {} if grammar is None else {"response_format": {"type": "text"}, "grammar": grammar}

    @cached_property
    def _recommended_sampling(self) -> Mapping[str, float]:
        return catalogue.recommended_sampling(self.stored.hashes)

    def times(self, prepared: Prepared, answers: int) -> Prepared:
        """The same for several answers at once to the one prompt. Raises BadInput for more than are made at once,
        ContextOverflow where the context does not hold them all."""
        if answers > self.options.parallel:
            raise BadInput(f"{answers} answers at once are too many.", do=f"Ask for {self.options.parallel} at most.")
        if (tokens := answers * prepared.tokens) > self.context:
            raise overflow(tokens, self.context, self.header.context_length)
        return replace(prepared, tokens=tokens, body={**prepared.body, "n": answers})

    def admit(self, prepared: Prepared, owner: str = "", most_waiting: int | None = None) -> Place:
        """owner: whose turn it takes. Raises Busy where so many wait already."""
        return self.children.ask(prepared.tokens, owner, most_waiting, prepared.role, prepared.marks)

    @asynccontextmanager
    async def answering(self, prepared: Prepared) -> AsyncIterator[RelayedAnswer]:
        """The worker's answer under way, for a gateway, once it is admitted. Raises what the engine refuses,
        EngineCrashed, EngineStalled."""
        socket = self.children.socket_at_once(prepared.role)
        if socket is None:
            socket = await self.waited(lambda: self.children.socket(prepared.role))
        try:
            body = json.dumps(prepared.body).encode()
            async with relay(socket, prepared.route, body, prepared.more_s) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, b"".join([piece async for piece in answer.body()]))
                yield answer
        except (EngineCrashed, EngineStalled):
            await asyncio.to_thread(self.children.end, prepared.role, socket)
            raise

    async def waited(self, call: Callable[[], T]) -> T:
        """What a call tells that may wait for a child: in a thread of this model's own, so that a child that hangs
        keeps nobody waiting but who asked it."""
        return await self._threads.run(call)

    def _count(self, route: str, body: Mapping[str, Any]) -> int:
        trained = self.header.context_length
        need_context(text_bytes(body), self.context, trained)
        need_messages(len(body.get("messages", ())), self.context, trained)
        if route == "/v1/completions":
            if not isinstance(body["prompt"], str):
                return len(body["prompt"])
            return len(self._told("/tokenize", {"content": body["prompt"], "add_special": True})["tokens"])
        return int(self._told("/v1/chat/completions/input_tokens", body)["input_tokens"])

    def _told(self, route: str, body: Mapping[str, Any]) -> Event:
        """Asked twice, since whoever only asks holds no place: the worker may be begun anew meanwhile."""
        try:
            (event,) = self.children.send("text", route, body)
        except EngineCrashed:
            (event,) = self.children.send("text", route, body)
        return event

    def tokenize(self, text: str, begun: bool = False) -> list[int]:
        """begun: whether the tokens that the model wants before every text are put there."""
        (event,) = self.children.send(self.kind, "/tokenize", {"content": text, "add_special": begun})
        return [int(token) for token in event["tokens"]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        self.need_tokens(tokens)
        (event,) = self.children.send(self.kind, "/detokenize", {"tokens": list(tokens)})
        return str(event["content"])

    # Vectors and ranks

    @property
    def pooled_context(self) -> int:
        """Tokens of one text at most, where texts are embedded or ranked."""
        return self._plan.pooled_context

    def embed(self, texts: Iterable[Input]) -> Embeddings:
        """Unit vectors, of texts or of their tokens. A text model gives the mean of its last layer; an embedder pools
        as its file says. Raises ContextOverflow for a text longer than the model's context."""
        self.need_embeddings()
        work = Embedding()
        self._work(work, listed(texts))
        return work.found

    async def embedding(self, texts: Sequence[Input], owner: str = "", most_waiting: int | None = None) -> Embeddings:
        """As `embed`, for a gateway. owner: whose turn it takes. Raises Busy where so many wait already."""
        self.need_embeddings()
        work = Embedding()
        await self._work_for(work, listed(texts), owner, most_waiting)
        return work.found

    def need_embeddings(self) -> None:
        """Raises BadInput for a model that makes none."""
        if self.kind == "rerank":
            self.need("embedding")

    def rerank(self, query: str, documents: Iterable[str]) -> list[Ranked]:
        """Documents by closeness to the query, the closest first. Raises BadInput when the model is no reranker."""
        work = self._ranking_by(query)
        self._work(work, listed(documents))
        return work.found

    async def ranking(
        self, query: str, documents: Sequence[str], owner: str = "", most_waiting: int | None = None
    ) -> list[Ranked]:
        """As `rerank`, for a gateway. owner: whose turn it takes. Raises Busy where so many wait already."""
        work = self._ranking_by(query)
        await self._work_for(work, listed(documents), owner, most_waiting)
        return work.found

    def _ranking_by(self, query: str) -> Ranking:
        self.need("rerank")
        need_context(text_bound(query), self._plan.pooled_context, self.header.context_length)
        return Ranking(query)

    def need_tokens(self, tokens: Sequence[int]) -> None:
        """Raises BadInput for what is no token of the model: the engine would read beyond its table."""
        if not all(type(token) is int for token in tokens):
            raise BadInput("A list within the list of texts holds tokens, which are whole numbers.", do="Write [text].")
        if (highest := max(tokens, default=0)) >= (most := self.header.vocab_size or 0) or min(tokens, default=0) < 0:
            raise BadInput(f"There is no token {highest}: {self.name} has {most}.", do="Send text, or its own tokens.")

    def _batches(self, texts: Sequence[Input]) -> Iterator[Sequence[Input]]:
        """As many as are computed at once: the answer to thousands would look like an engine that hangs."""
        for text in texts:
            if isinstance(text, list | tuple):
                self.need_tokens(text)
            need_context(input_bound(text), self._plan.pooled_context, self.header.context_length)
        for start in range(0, len(texts), self._plan.pooled_slots):
            yield texts[start : start + self._plan.pooled_slots]

    def _work(self, work: Pooled, texts: Sequence[Input]) -> None:
        for batch in self._batches(texts):
            place = self.children.ask_pooled(len(batch))
            try:
                place.wait()
                (event,) = self.children.send(work.role, work.route, work.body(batch), self._more_s(work, batch))
            finally:
                place.give_back()
            work.read(event)

    async def _work_for(self, work: Pooled, texts: Sequence[Input], owner: str, most_waiting: int | None) -> None:
        for batch in self._batches(texts):
            place = self.children.ask_pooled(len(batch), owner, most_waiting)
            try:
                await place.reach()
                asked = Prepared(work.role, work.route, work.body(batch), 0, self._more_s(work, batch))
                async with self.answering(asked) as answer:
                    event = json.loads(b"".join([piece async for piece in answer.body()]))
            finally:
                place.give_back()
            work.read(event)

    def _more_s(self, work: Pooled, batch: Sequence[Input]) -> float:
        """The engine gives no sign of life until all texts are done, so it is given the time they may take."""
        return sum(min(input_bound(text), self._plan.pooled_context) for text in work.computed(batch)) / SLOWEST_PROMPT

    # Measures

    def score(self, prompt: str, endings: Iterable[str]) -> list[Scored]:
        """Log-likelihood in nats of each ending after the prompt, tokenised as lm-evaluation-harness does. Another
        thread ends it with `scorer.cancel()`, which raises Cancelled here."""
        from filbert.engine import score_and_perplexity

        self.need("text")
        texts = listed(endings)
        size = text_bound(prompt) + max(map(text_bound, texts), default=0)
        need_context(size, self._plan.scored_context, self.header.context_length)
        return score_and_perplexity.score(self.scorer, prompt, texts)

    def perplexity(self, text: str, window: int = 512) -> Perplexity:
        """Perplexity by llama.cpp's convention: windows of `window` tokens, the second half of each scored."""
        from filbert.engine import score_and_perplexity

        self.need("text")
        return score_and_perplexity.perplexity(self.scorer, text, window)

    async def echoing(self, prompts: Sequence[Input], n: int, owner: str, most_waiting: int | None) -> list[Echo]:
        return await echoes(self, prompts, n, owner, most_waiting)

    @property
    def scored_context(self) -> int:
        """Tokens of a text whose log-probabilities are told, and the one after it."""
        return self._plan.scored_context

    @property
    def scorer(self) -> Scorer:
        return self.children.scorer

    def need(self, kind: Kind) -> None:
        """Raises BadInput when the model is of another kind."""
        need_kind(self.name, self.kind, kind)


STREAMED = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
