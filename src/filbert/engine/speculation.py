"""N-gram speculation: the engine guesses the next tokens from text it has seen, and checks them all in one batch.

It keeps the distribution of answers, not their bytes, and the engine has no switch for it per request: what wants the
same bytes each time goes to a twin of the worker without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filbert.engine.sampling import Sampling

N_MATCH = 16  # tokens that must have been seen in this order before a guess; the figures are of benchmarks/run
N_MIN, N_MAX = 8, 32  # tokens of a guess


def keeps(sampling: Sampling) -> bool:
    """Whether speculation keeps what the request asks for: not with a seed, at temperature 0 or with logprobs."""
    return sampling.seed is None and sampling.temperature != 0 and sampling.logprobs is None
