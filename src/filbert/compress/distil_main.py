"""The distillation's child: what a type leaves continuous, trained so that the file predicts what the full model does.

Codes stay as the quantiser chose them; vectors (the gains of norms, biases) and the scales and minima of the blocks
move, by Adam (Kingma and Ba, 2015) on KL(full ‖ file) at each position of a text. What they come to is rounded to the
16 bits that the file has for them, so that no file grows and any llama.cpp runs it.

Told once what to read and where to write; says {"step": …, "of": …, "kl": …} after each, then {"answer": {}}. Now and
then the state is kept, and who asks the same again goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from filbert.compress.blocks import SCALES, Blocks, blocks
from filbert.compress.network import Network, network, output, read, start
from filbert.core.files import write_whole
from filbert.engine.answering import Say, answer_once
from filbert.models.gguf import read_header

ROTATION = "rope_freqs.weight"
LEGACY = frozenset(("Q4_1", "Q5_1"))  # their minimum is where a block begins, not a multiple of a kind of scale
BETAS = (0.9, 0.99)
LAST_RATE = 0.05  # of the first
ROWS = 256  # of logits held at once


@dataclass(frozen=True)
class Rates:
    """Adam's steps, of vectors, scales and minima. Each is relative to what it moves; a minimum of Q4_1's kind to the
    scale."""

    gain: float
    scale: float
    minimum: float


class Rounded:
    """A matrix whose scales and minima are trained: weight = scale u + minimum v."""

    def __init__(self, found: Blocks, shape: Sequence[int]) -> None:
        self.found = found
        self._scale = torch.from_numpy(found.scale)
        self._minimum = None if found.minimum is None else torch.from_numpy(found.minimum)
        self._u = torch.from_numpy(found.u)
        self._v = None if found.v is None else torch.from_numpy(found.v)
        self._legacy = found.type in LEGACY
        # A scale of Q4_1's kind turns about the mean of its block, or it would move the whole block with it.
        self._centre = self._u.mean(1) if self._legacy else None
        self.of_scale = torch.zeros_like(self._scale, requires_grad=True)
        self.of_minimum = None if self._minimum is None else torch.zeros_like(self._minimum, requires_grad=True)
        self.weight = torch.empty(tuple(shape)).requires_grad_()

    def now(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scale and minimum as the file will hold them."""
        scale = _half(self._scale * (1 + self.of_scale.detach()))
        if self._minimum is None or self.of_minimum is None:
            return scale, None
        if self._centre is not None:
            moved = self._scale * (self._centre + self.of_minimum.detach()) - scale * self._centre
            return scale, _half(self._minimum + moved)
        return scale, _half(self._minimum * (1 + self.of_minimum.detach()))

    def build(self) -> None:
        scale, minimum = self.now()
        weight = self.weight.detach().view_as(self._u)
        torch.mul(self._u, scale[:, None], out=weight)
        if minimum is not None and self._v is not None:
            weight.addcmul_(self._v, minimum[:, None])

    def take_gradient(self) -> None:
        """From the weights' gradient to those of what is trained."""
        assert self.weight.grad is not None
        gradient = self.weight.grad.view_as(self._u)
        of_scale = torch.einsum("bk,bk->b", gradient, self._u)
        if self._minimum is not None and self.of_minimum is not None and self._v is not None:
            of_minimum = (gradient * self._v).sum(1)
            if self._centre is not None:
                of_scale -= self._centre * of_minimum
                self.of_minimum.grad = of_minimum * self._scale
            else:
                self.of_minimum.grad = of_minimum * self._minimum
        self.of_scale.grad = of_scale * self._scale
        self.weight.grad = None

    def written(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        scale, minimum = self.now()
        return self.found.written(scale.numpy(), None if minimum is None else minimum.numpy())


def _half(values: torch.Tensor) -> torch.Tensor:
    return values.half().float()


class Student:
    """The file in torch: its matrices, its vectors (as how far they moved), and what stays as it is."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self._places = {tensor.name: tensor for tensor in header.tensors}
        self.network = network(header, list(self._places))
        self.rounded: dict[str, Rounded] = {}
        self.gains: dict[str, torch.Tensor] = {}
        self._fixed: dict[str, torch.Tensor] = {}
        for name, tensor in self._places.items():
            if tensor.type in SCALES:
                data = np.fromfile(path, np.uint8, tensor.size_bytes, offset=tensor.offset)
                self.rounded[name] = Rounded(blocks(data, tensor.type), tensor.shape[::-1])
            elif len(tensor.shape) == 1 and tensor.type == "F32" and name != ROTATION:
                self._fixed[name] = read(path, tensor)
                self.gains[name] = torch.zeros_like(self._fixed[name], requires_grad=True)
            else:
                self._fixed[name] = read(path, tensor)

    def weights(self) -> dict[str, torch.Tensor]:
        gains = {name: self._fixed[name] * (1 + moved) for name, moved in self.gains.items()}
        return self._fixed | gains | {name: each.weight for name, each in self.rounded.items()}

    def groups(self, rates: Rates) -> list[dict[str, Any]]:
        of_legacy = [each.of_minimum for each in self.rounded.values() if each.found.type in LEGACY]
        multiplied = [
            each.of_minimum
            for each in self.rounded.values()
            if each.of_minimum is not None and each.found.type not in LEGACY
        ]
        scales = [each.of_scale for each in self.rounded.values()]
        groups = [
            (list(self.gains.values()), rates.gain),
            (scales + multiplied, rates.scale),
            (of_legacy, rates.minimum),
        ]
        return [{"params": params, "lr": rate} for params, rate in groups if params]

    def write(self, path: Path) -> None:
        """In place, into a copy of the file that it was read from."""
        with path.open("r+b") as file:
            for name, each in self.rounded.items():
                file.seek(self._places[name].offset)
                file.write(each.written().tobytes())
            for name, moved in self.gains.items():
                file.seek(self._places[name].offset)
                file.write((self._fixed[name] * (1 + moved)).detach().numpy().tobytes())


class Teacher:
    """hidden: what the full model's output matrix is multiplied with, kept a file a window."""

    def __init__(self, parts: Sequence[Path], folder: Path) -> None:
        headers = [(read_header(part), part) for part in parts]
        tensors = {tensor.name: (tensor, part) for header, part in headers for tensor in header.tensors}
        self._network = network(headers[0][0], list(tensors))
        self._tensors = tensors
        self._folder = folder
        self._weights: dict[str, torch.Tensor] | None = None
        name = "output.weight" if "output.weight" in tensors else "token_embd.weight"
        tensor, part = tensors[name]
        self.output = read(part, tensor)

    def hidden(self, number: int, tokens: torch.Tensor) -> torch.Tensor:
        file = self._folder / f"{number}.npy"
        if file.exists():
            return torch.from_numpy(np.load(file))
        if self._weights is None:
            self._weights = {name: read(part, tensor) for name, (tensor, part) in self._tensors.items()}
        with torch.no_grad():
            found = self._network.hidden(self._weights, tokens)
        with write_whole(file) as kept:
            np.save(kept, found.numpy())
        return found


def step(
    model: Network, weights: Mapping[str, torch.Tensor], tokens: torch.Tensor, seen: torch.Tensor, full: torch.Tensor
) -> float:
    """Backward of the mean KL divergence, whose value it gives. seen: the teacher's hidden states; full: its output
    matrix."""
    hidden = model.hidden(weights, tokens)
    cut = hidden.detach().requires_grad_()
    matrix, total = output(weights), 0.0
    for first in range(0, len(tokens), ROWS):
        logits = cut[first : first + ROWS] @ matrix.T
        with torch.no_grad():
            base = (seen[first : first + ROWS] @ full.T).log_softmax(-1)
            ours = logits.log_softmax(-1)
            chances = base.exp()
            total += float((chances * (base - ours)).sum())
            gradient = ours.exp_().sub_(chances).div_(len(tokens))
        logits.backward(gradient)
    hidden.backward(cut.grad)
    return total / len(tokens)


def distil(config: Mapping[str, Any], say: Say) -> dict[str, Any]:
    start(config["threads"])
    torch.manual_seed(0)
    target, state = Path(config["target"]), Path(config["state"])
    student = Student(target)
    teacher = Teacher([Path(part) for part in config["parts"]], Path(config["folder"]))
    windows, steps, warm = config["windows"], config["steps"], config["warm"]
    adam = torch.optim.Adam(student.groups(Rates(**config["rates"])), betas=BETAS, eps=1e-12)
    rates = [group["lr"] for group in adam.param_groups]
    done = resumed(state, adam, config["identity"])
    kept = time.monotonic()
    for number in range(done, steps):
        share = min(1, (number + 1) / warm) * (LAST_RATE + (1 - LAST_RATE) * (1 - number / steps))
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * share
        for each in student.rounded.values():
            each.build()
        tokens = torch.tensor(windows[number % len(windows)])
        seen = teacher.hidden(number % len(windows), tokens)
        kl = step(student.network, student.weights(), tokens, seen, teacher.output)
        for each in student.rounded.values():
            each.take_gradient()
        clip(adam, config["clip"])
        adam.step()
        adam.zero_grad()
        say({"step": number + 1, "of": steps, "kl": kl})
        if time.monotonic() - kept > config["kept_each_s"]:
            keep(state, adam, config["identity"], number + 1)
            kept = time.monotonic()
    student.write(target)
    return {}


def clip(adam: torch.optim.Adam, most: float) -> None:
    """The gradient's length, of each group for itself, to that many times what it was of late."""
    for group in adam.param_groups:
        length = math.sqrt(sum(float(each.grad.square().sum()) for each in group["params"] if each.grad is not None))
        usual = group.get("usual", length)
        if length > most * usual:
            for each in group["params"]:
                each.grad *= most * usual / length
        group["usual"] = 0.9 * usual + 0.1 * min(length, most * usual)


def keep(state: Path, adam: torch.optim.Adam, identity: str, done: int) -> None:
    values = [each.detach() for group in adam.param_groups for each in group["params"]]
    with write_whole(state) as file:
        torch.save({"of": identity, "done": done, "adam": adam.state_dict(), "values": values}, file)


def resumed(state: Path, adam: torch.optim.Adam, identity: str) -> int:
    """Steps that an earlier run of the same has made; what they came to is taken over."""
    if not state.exists():
        return 0
    said = torch.load(state, weights_only=True)
    if said["of"] != identity:
        return 0
    adam.load_state_dict(said["adam"])
    with torch.no_grad():
        for mine, its in zip(
            (each for group in adam.param_groups for each in group["params"]), said["values"], strict=True
        ):
            mine.copy_(its)
    return int(said["done"])


if __name__ == "__main__":
    answer_once(distil)
