"""How much a model loses when one of its tensors is rounded and all else stays: a table of tensors and types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filbert.core.errors import BadInput
from filbert.core.files import read_text_file, write_whole


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """maker: how it was found; identity: of what: the model, its importance matrix, the text. losses: of each tensor
    by type, the KL divergence from the full model in nats a token; of types that the tensor can have."""

    maker: str
    identity: str
    losses: Mapping[str, Mapping[str, float]]

    def write(self, path: Path) -> None:
        """Raises DiskFull, StoreReadOnly."""
        with write_whole(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


def read_sensitivity(path: Path) -> Sensitivity:
    """Raises BadInput for what is none."""
    try:
        told = json.loads(read_text_file(path, str(path)))
        losses = {
            name: {kind: float(loss) for kind, loss in by_type.items()} for name, by_type in told["losses"].items()
        }
        return Sensitivity(str(told["maker"]), str(told["identity"]), losses)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadInput(f"{path.name} is no table of sensitivities.", why=f"{exc!r}.", do="Make it anew.") from exc
