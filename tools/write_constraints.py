"""Write constraints.txt from the running environment (`make constraints`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = (
    "# What was installed when the tests last passed; pip reads it so that next year's build is this build.\n"
    "# Rewritten by `make constraints`.\n"
)


def main() -> None:
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--disable-pip-version-check"]
    pins = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (Path(__file__).parent.parent / "constraints.txt").write_text(HEAD + pins)


if __name__ == "__main__":
    main()
