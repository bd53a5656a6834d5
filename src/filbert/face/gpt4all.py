"""Drop-ins for the classes of the gpt4all package, whose names, order, defaults and return types they keep (2.8.2).

A class of its own face: programs written for that package run as they stand, with today's models and safe to use from
several threads. docs/coming-from-gpt4all.md has the native twin of each call.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from filbert.chat.session import ChatSession, Turn
from filbert.core.messages import Message
from filbert.core.settings import configured
from filbert.engine.bounds import text_bound
from filbert.engine.generation import Answer, Generation
from filbert.engine.model import Model
from filbert.engine.sampling import Sampling
from filbert.engine.tools import NO_TOOLS, Tool, ToolUse
from filbert.face import gpt4all_files as files
from filbert.face.gpt4all_engine import EmbedCancelled, LoadedModel, gpu_layers_of, list_gpus, token_id, warn_once

ALPACA = "### Human:\n{0}\n\n### Assistant:\n"
TURNS = ("### Instruction", "### Prompt", "### Response", "### Human", "### Assistant", "### Context")
AFTER_ANSWER = "\n\n"  # where a prompt template does not say what follows an answer
DEFAULT_BATCH = 8
STEP_S = 0.1  # so often one that waits for another thread's stream looks whether the thread is there

ConfigType = dict[str, Any]
MessageType = dict[str, str]
ResponseCallback = Callable[[int, str], bool]


def empty_response_callback(token_id: int, response: str) -> bool:
    return True


class Embed4All:
    """Vectors of texts."""

    MIN_DIMENSIONALITY = 64

    def __init__(
        self,
        model_name: str | None = None,
        *,
        n_threads: int | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        """kwargs: as of `GPT4All`. Without a name: all-MiniLM-L6-v2."""
        name = "all-MiniLM-L6-v2.gguf2.f16.gguf" if model_name is None else model_name
        self.gpt4all = GPT4All(name, n_threads=n_threads, device=device, **kwargs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the engine."""
        self.gpt4all.close()

    def embed(
        self,
        text: str | list[str],
        *,
        prefix: str | None = None,
        dimensionality: int | None = None,
        long_text_mode: str = "mean",
        return_dict: bool = False,
        atlas: bool = False,
        cancel_cb: EmbedCancelled | None = None,
    ) -> Any:
        """A unit vector, or a list of them for a list; with `return_dict` {"embeddings", "n_prompt_tokens"}.

        prefix: the task, as the model's makers name it. dimensionality: of vectors that may be cut.
        long_text_mode: "mean" of a long text's pieces, or "truncate". Raises ValueError, RuntimeError, and
        CancellationError where `cancel_cb(tokens of each piece, backend)` returns True."""
        if dimensionality is not None and dimensionality <= 0:
            raise ValueError(f"Dimensionality must be None or a positive integer, got {dimensionality}")
        if dimensionality is not None and dimensionality < self.MIN_DIMENSIONALITY:
            warnings.warn(
                f"Dimensionality {dimensionality} is less than the suggested minimum of {self.MIN_DIMENSIONALITY}."
                " Performance may be degraded.",
                stacklevel=2,
            )
        if long_text_mode not in ("mean", "truncate"):
            raise ValueError(f"Long text mode must be one of 'mean' or 'truncate', got {long_text_mode!r}")
        size, mean = dimensionality or -1, long_text_mode == "mean"
        result = self.gpt4all.model.generate_embeddings(text, prefix, size, mean, atlas, cancel_cb)
        return result if return_dict else result["embeddings"]


class GPT4All:
    """A model that answers."""

    def __init__(
        self,
        model_name: str,
        *,
        model_path: str | os.PathLike[str] | None = None,
        model_type: str | None = None,
        allow_download: bool = True,
        n_threads: int | None = None,
        device: str | None = None,
        n_ctx: int = 2048,
        ngl: int = 100,
        verbose: bool = False,
    ) -> None:
        """model_name: a file's name, with or without .gguf, or a name of Filbert's. model_path: the folder of the file.
        device: "cpu", or anything else for a graphics card. n_ctx: tokens of context. ngl: layers on the card.
        Raises FileNotFoundError, UnknownModel, BadModelFile, DownloadFailed, OfflineRefused."""
        self.model_type = model_type
        self._history: list[MessageType] | None = None
        self._session: _Session | None = None
        self.config: ConfigType = self.retrieve_model(
            model_name, model_path=model_path, allow_download=allow_download, verbose=verbose
        )
        self.model = LoadedModel(self.config["path"], n_ctx, n_threads, gpu_layers_of(device, ngl))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the engine."""
        self.model.close()

    @property
    def backend(self) -> str:
        """ "cpu", or "cuda" where a graphics card computes."""
        return self.model.backend

    @property
    def device(self) -> str | None:
        """The graphics card in use, None where the processor computes."""
        return self.model.device

    @property
    def current_chat_session(self) -> list[MessageType] | None:
        """A copy of what was said, the system message first; None outside `chat_session`."""
        return None if self._history is None else [dict(message) for message in self._history]

    @staticmethod
    def list_models() -> list[ConfigType]:
        """Filbert's catalogue in the shape of GPT4All's list. Contacts nothing."""
        return files.listed()

    @classmethod
    def retrieve_model(
        cls,
        model_name: str,
        model_path: str | os.PathLike[str] | None = None,
        allow_download: bool = True,
        verbose: bool = False,
    ) -> ConfigType:
        """What is known of a model, with its `path`. A file that is there is taken without asking anybody; what
        Filbert has installed too, unless a folder is named. Raises as the constructor does."""
        target = files.in_folder(model_name, model_path)
        config = files.config_of(target.name) if allow_download else {}
        if target.exists():
            files.tell(f"Found model file at {str(target)!r}", verbose)
            return {**config, "path": str(target)}
        if model_path is None and (path := files.in_store(model_name)):
            return {**config, "path": str(path)}
        if not allow_download:
            raise FileNotFoundError(f"Model file does not exist: {target!r}")
        if model_path is None:
            return {**config, "path": str(files.pulled(model_name))}
        return {**config, "path": str(cls.download_model(target.name, model_path, verbose=verbose))}

    @staticmethod
    def download_model(
        model_filename: str,
        model_path: str | os.PathLike[str],
        verbose: bool = True,
        url: str | None = None,
        expected_size: int | None = None,
        expected_md5: str | None = None,
    ) -> str | os.PathLike[str]:
        """Fetch a model into Filbert's store and give it a name in the folder; where it is then.
        Raises UnknownModel, DownloadFailed, OfflineRefused, and ValueError where it is not what was expected."""
        found = files.pulled(url or model_filename)
        files.check_download(found, expected_size, expected_md5)
        target = files.put_at(found, Path(model_path) / model_filename)
        files.tell(f"Model downloaded to {str(target)!r}", verbose)
        return target

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temp: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repeat_penalty: float = ...,
        repeat_last_n: int = ...,
        n_batch: int = ...,
        n_predict: int | None = ...,
        streaming: Literal[False] = ...,
        callback: ResponseCallback = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temp: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repeat_penalty: float = ...,
        repeat_last_n: int = ...,
        n_batch: int = ...,
        n_predict: int | None = ...,
        streaming: Literal[True],
        callback: ResponseCallback = ...,
    ) -> Iterable[str]: ...

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 200,
        temp: float = 0.7,
        top_k: int = 40,
        top_p: float = 0.4,
        min_p: float = 0.0,
        repeat_penalty: float = 1.18,
        repeat_last_n: int = 64,
        n_batch: int = 8,
        n_predict: int | None = None,
        streaming: bool = False,
        callback: ResponseCallback = empty_response_callback,
    ) -> Any:
        """Go on from a prompt, or answer it inside `chat_session`; the text, or its pieces where it is streamed.

        n_predict: the older name of max_tokens, and wins. callback(token, piece): ends the answer by returning False;
        its last piece stays in the text and is not streamed. Raises ContextOverflow."""
        if n_batch != DEFAULT_BATCH:
            warn_once("n_batch", "prompts are computed in pieces of Filbert's own size")
        wanted = max_tokens if n_predict is None else n_predict
        sampling = configured(
            Sampling,
            {
                "max_tokens": max(1, wanted),
                "temperature": temp,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "repeat_penalty": repeat_penalty,
                "repeat_last_n": repeat_last_n,
                "logprobs": None if callback is empty_response_callback else 0,  # which come with the token's number
            },
        )
        collector = self._asked(prompt)
        pieces = self._pieces(self._session, prompt, sampling, callback, collector) if wanted > 0 else iter(())
        if streaming:
            return pieces
        for _ in pieces:
            pass
        return collector["content"]

    def _asked(self, prompt: str) -> MessageType:
        """Where the answer is collected: the last message of a chat session, or nowhere."""
        engine = self.model.engine  # or it is closed
        engine.need("text")
        answer = {"role": "assistant", "content": ""}
        if self._history is not None:
            self._history += [{"role": "user", "content": prompt}, answer]
        return answer

    def _pieces(
        self,
        session: _Session | None,
        prompt: str,
        sampling: Sampling,
        callback: ResponseCallback,
        collector: MessageType,
    ) -> Iterator[str]:
        answer = session.answer(prompt, sampling) if session else self._complete(prompt, sampling)
        with closing(iter(answer)) as chunks:  # type: ignore[type-var]  # a generator, whose leaving ends the answer
            for chunk in chunks:
                if chunk.text:
                    collector["content"] += chunk.text
                    if not callback(token_id(chunk.logprobs), chunk.text):
                        return
                    yield chunk.text

    def _complete(self, prompt: str, sampling: Sampling) -> Answer:
        return self.model.engine.complete(prompt, _ended_by_turns(sampling))

    @contextmanager
    def chat_session(self, system_prompt: str | None = None, prompt_template: str | None = None) -> Iterator[Self]:
        """Inside it, `generate` remembers what was said before. Without a `prompt_template`, in which {0} stands for
        what the user says and {1} for the answer, the model's own chat template is used."""
        if prompt_template is not None and re.search(r"%1(?![0-9])", prompt_template):
            raise ValueError(
                "Prompt template containing a literal '%1' is not supported. For a prompt "
                "placeholder, please use '{0}' instead."
            )
        system = system_prompt or ""
        self._history = [{"role": "system", "content": system}]
        self._session = session = _session_of(self.model.engine, system, prompt_template)
        try:
            yield self
        finally:
            session.leave()
            self._history = self._session = None

    @staticmethod
    def list_gpus() -> list[str]:
        """The graphics cards that the engine sees."""
        return list_gpus()


class _Session:
    """A conversation whose answers come one after the other, also where several threads ask."""

    def __init__(self, chat: ChatSession) -> None:
        self._chat = chat
        self._asking = threading.Lock()
        self._turn: Turn | None = None
        self._asked_by = threading.current_thread()

    def answer(self, prompt: str, sampling: Sampling) -> Turn:
        with self._asking:
            self.settle()
            self._asked_by = threading.current_thread()
            self._turn = self._chat.send(prompt, sampling)
            return self._turn

    def settle(self) -> None:
        """End a stream that this thread left half read, or one that has ended; wait for one that another reads."""
        while (turn := self._turn) and not turn.over.is_set():
            if self._asked_by is threading.current_thread() or not self._asked_by.is_alive():
                _end(turn)
            turn.over.wait(STEP_S)

    def leave(self) -> None:
        """End the stream under way, whoever reads it."""
        while (turn := self._turn) and not turn.over.is_set():
            _end(turn)
            turn.over.wait(STEP_S)


def _end(turn: Turn) -> None:
    turn.cancel()
    with suppress(ValueError):  # another thread is reading it, and hears of its end
        turn.reply()


class _Templated:
    """A model that answers a conversation through a caller's prompt template, as a `ChatSession` needs it."""

    def __init__(self, model: Model, template: str) -> None:
        self._model = model
        self.context, self.header = model.context, model.header
        self._asked, found, self._answered = template.partition("{1}")
        self._answered = self._answered if found else AFTER_ANSWER

    def respond(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        tools: Iterable[Tool] = (),
        tool_choice: str = "auto",
    ) -> Generation:
        return self._model.complete(self._text(messages), _ended_by_turns(sampling or configured(Sampling)))

    def prompt_bound(self, messages: Sequence[Message], use: ToolUse = NO_TOOLS) -> int:
        return text_bound(self._text(messages))

    def count_tokens(self, messages: Sequence[Message], use: ToolUse = NO_TOOLS) -> int:
        return len(self._model.tokenize(self._text(messages)))

    def _text(self, messages: Sequence[Message]) -> str:
        return "".join(map(self._shown, messages))

    def _shown(self, message: Message) -> str:
        said = str(message.content)
        if message.role == "user":
            return self._asked.replace("{0}", said)
        return said + self._answered if message.role == "assistant" else said


def _session_of(model: Model, system: str, template: str | None) -> _Session:
    if template is None and not model.header.chat_template:
        warnings.warn(
            "The model has no chat template of its own and none was given. Defaulting to Alpaca.",
            DeprecationWarning,
            stacklevel=4,
        )
        template = ALPACA
    answering = _Templated(model, template) if template else model
    return _Session(ChatSession(answering, system=system))


def _ended_by_turns(sampling: Sampling) -> Sampling:
    """A text that goes on without a chat template ends where the next turn would begin."""
    return sampling.model_copy(update={"stop": TURNS})
