"""Tokens of context where nobody says how many. Apart from what reckons with them: every command imports this."""

CONTEXT_STEP = 256  # the engine rounds up to it
LEAST_CONTEXT = 512
MOST_CONTEXT = 16384
