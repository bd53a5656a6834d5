"""Whether a LoRA adapter belongs to a model, told from both headers before native code sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from filbert.core.errors import BadInput
from filbert.models.header import Header, Tensor

HALVES = (".lora_a", ".lora_b")
EMBEDDING = "token_embd.weight"  # whose halves are stored the other way round


def check_adapter(adapter: Header, base: Sequence[Header]) -> None:
    """base: headers of the model's parts. Raises BadInput for what is no adapter, and for one of another model."""
    if adapter.kind != "adapter":
        raise BadInput(
            f"{adapter.source} is no adapter ({adapter.kind}).", do="Give a LoRA adapter that was converted to GGUF."
        )
    if adapter.architecture != base[0].architecture:
        why = f"It is for {adapter.architecture}, the model is {base[0].architecture}."
        raise _of_another(adapter, base[0], why)
    wide = {tensor.name: tensor for header in base for tensor in header.tensors}
    for name, first, second in _pairs(adapter.tensors):
        _check_widths(adapter, base[0], wide, name, (first, second))


def _pairs(tensors: Iterable[Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    """(the tensor that is changed, and the two that are multiplied)."""
    by_name = {tensor.name: tensor for tensor in tensors}
    return [
        (name.removesuffix(HALVES[0]), tensor, by_name[other])
        for name, tensor in by_name.items()
        if name.endswith(HALVES[0]) and (other := name.removesuffix(HALVES[0]) + HALVES[1]) in by_name
    ]


def _check_widths(
    adapter: Header, base: Header, wide: Mapping[str, Tensor], name: str, halves: tuple[Tensor, ...]
) -> None:
    if name not in wide:
        raise _of_another(adapter, base, f"It changes {name}, which the model does not have.")
    (first, second), whole = map(_sides, halves), _sides(wide[name])
    changed = (second[1], first[1]) if name == EMBEDDING else (first[0], second[1])
    if changed != whole:
        why = f"Its {name} is {changed[0]} x {changed[1]}, the model's {whole[0]} x {whole[1]}."
        raise _of_another(adapter, base, why)


def _sides(tensor: Tensor) -> tuple[int, int]:
    return (*tensor.shape, 1, 1)[0], (*tensor.shape, 1, 1)[1]


def _of_another(adapter: Header, base: Header, why: str) -> BadInput:
    return BadInput(
        f"{adapter.source} was made for another model than {base.source}.",
        why=why,
        do="Load the model it was trained on.",
    )
