"""What programs written for the gpt4all package import: `sys.modules["gpt4all"] = filbert.compat` is enough."""

from filbert.face.gpt4all import Embed4All, GPT4All
from filbert.face.gpt4all_engine import CancellationError

__all__ = ["CancellationError", "Embed4All", "GPT4All"]
