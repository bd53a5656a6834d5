"""How much a scorer decodes at once: kept to in its process, and reckoned with in the caller's."""

from __future__ import annotations

N_BATCH = 512  # tokens a decode: more gains nothing on a processor and costs buffers
SEQUENCES = 64  # that share a cache: the engine aborts with more than a decode gives logits (capi.py, n_outputs)
BRANCHES = 32  # sequences beside the first, where each holds a state of its own
OUTPUT_BYTES = 64 << 20  # logits held at once: a vocabulary of 152,000 makes 0.6 MB of them a row
