"""The gradients' child: what the model's predictions lose when a tensor is rounded, without running it rounded.

Labels are drawn from the model's own predictions; the gradient g of their log-likelihood has the Fisher information as
its second moment, so that the KL divergence of a small change d of the weights is 1/2 E[(g . d)^2] (Amari, 1998).
Rounding errors of different rows have nothing to do with one another, and a row's part is taken for itself, which is
steadier.
Gradients of a few windows at a time lie on disk; then each tensor meets what each type makes of it.

Told once what to read; says {"answer": …} with the log-likelihoods of a few tokens, {"step": …, "done": …, "of": …} as
it goes, then {"answer": {tensor: {type: nats a token}}}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from filbert.compress.network import Network, network, output, read, read_all, start
from filbert.core.files import write_whole
from filbert.engine.answering import Say, answer_once
from filbert.models.gguf_write import size_of
from filbert.models.header import Tensor


class Gradients:
    """Those of the matrices in 16 bits on disk, a set for each few windows; `done` says how many sets are there."""

    def __init__(self, folder: Path, tensors: Sequence[Tensor], sets: int, identity: str) -> None:
        self._starts: dict[str, tuple[int, int]] = {}
        at = 0
        for tensor in tensors:
            self._starts[tensor.name] = at, tensor.count
            at += tensor.count
        file = str(folder / "gradients")
        self._kept = torch.from_file(file, shared=True, size=at * sets, dtype=torch.bfloat16).view(sets, at)
        self._story, self._identity = folder / "gradients.json", identity
        self.sets, self.done = sets, self._read()

    def keep(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, (first, count) in self._starts.items():
            gradient = weights[name].grad
            assert gradient is not None
            self._kept[self.done, first : first + count] = gradient.flatten()
        self.done += 1
        with write_whole(self._story) as file:
            file.write(json.dumps({"of": self._identity, "done": self.done}).encode())

    def of(self, tensor: Tensor) -> Iterator[torch.Tensor]:
        first, count = self._starts[tensor.name]
        for kept in self._kept:
            yield kept[first : first + count].float().view(tensor.shape[::-1])

    def _read(self) -> int:
        try:
            said = json.loads(self._story.read_text("utf-8"))
            return int(said["done"]) if said["of"] == self._identity else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a tensor becomes in a type, and where that lies."""

    name: str
    type: str
    file: str
    offset: int


def measure(config: Mapping[str, Any], say: Say) -> dict[str, dict[str, float]]:
    start(config["threads"])
    weights, tensors, header = read_all([Path(part) for part in config["parts"]])
    model = network(header, list(weights))
    sets = config["sets"]
    say({"answer": likelihoods(model, weights, sets[0][0][: config["checked"]])})
    matrices = [tensors[name] for name in config["names"]]
    for tensor in matrices:
        weights[tensor.name].requires_grad_()
    kept = Gradients(Path(config["folder"]), matrices, len(sets), config["identity"])
    gradients(model, weights, sets, kept, say)
    candidates = [Candidate(**candidate) for candidate in config["candidates"]]
    return losses(weights, matrices, candidates, kept, sum(len(tokens) for windows in sets for tokens in windows), say)


def likelihoods(model: Network, weights: Mapping[str, torch.Tensor], tokens: Sequence[int]) -> list[float]:
    """In nats, of each token but the first."""
    with torch.no_grad():
        found = (model.hidden(weights, torch.tensor(tokens)) @ output(weights).T).log_softmax(-1)
    return [float(found[i, token]) for i, token in enumerate(tokens[1:])]


def gradients(
    model: Network,
    weights: Mapping[str, torch.Tensor],
    sets: Sequence[Sequence[list[int]]],
    kept: Gradients,
    say: Say,
) -> None:
    """sets: of windows of tokens, whose gradients are summed."""
    done, total = 0, sum(len(tokens) for windows in sets for tokens in windows)
    for number, windows in enumerate(sets):
        torch.manual_seed(number)
        for tokens in windows if number >= kept.done else ():
            logits = model.hidden(weights, torch.tensor(tokens)) @ output(weights).T
            with torch.no_grad():
                chances = logits.softmax(-1)
                drawn = torch.multinomial(chances, 1)
                chances.neg_().scatter_add_(1, drawn, torch.ones_like(drawn, dtype=chances.dtype))
            logits.backward(chances)  # of the log-likelihood: the label's indicator less the chances
            done += len(tokens)
            say({"step": "gradients", "done": done, "of": total, "unit": "tokens"})
        if number >= kept.done:
            kept.keep(weights)
            for weight in weights.values():
                weight.grad = None
        else:
            done += sum(map(len, windows))


def losses(
    weights: Mapping[str, torch.Tensor],
    matrices: Sequence[Tensor],
    candidates: Sequence[Candidate],
    kept: Gradients,
    n_tokens: int,
    say: Say,
) -> dict[str, dict[str, float]]:
    """Nats a token."""
    found: dict[str, dict[str, float]] = {tensor.name: {} for tensor in matrices}
    by_name = {tensor.name: tensor for tensor in matrices}
    for number, each in enumerate(candidates, 1):
        tensor = by_name[each.name]
        rounded = Tensor(
            each.name, tensor.shape, each.type, each.offset, size_of(tensor.shape, each.type), tensor.count
        )
        change = read(Path(each.file), rounded) - weights[each.name].detach()
        total = sum(float((g * change).sum(-1, dtype=torch.float64).square().sum()) for g in kept.of(tensor))
        found[each.name][each.type] = total / (2 * n_tokens)
        say({"step": "losses", "done": number, "of": len(candidates), "unit": "roundings"})
    return found


if __name__ == "__main__":
    answer_once(measure)
