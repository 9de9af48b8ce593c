"""Say whether MuJoCo can render here without a screen, and what to install if it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

BACKENDS = ("egl", "osmesa")
TRY = "import mujoco; context = mujoco.GLContext(64, 64); context.make_current(); context.free()"
HELP = """
setup stopped: MuJoCo cannot render the simulated cameras: no OpenGL library works without a screen. Install one:
    sudo apt-get install -y libegl1 libgl1 libgl1-mesa-dri
and run make again. (On Debian 12 and Ubuntu 22.04 or 24.04, `sudo apt-get install -y libosmesa6` also does.)
What was tried:"""


def reason(backend: str) -> str | None:
    """Why this backend cannot make a context, or None if it can."""
    tried = subprocess.run(
        [sys.executable, "-c", TRY], env={**os.environ, "MUJOCO_GL": backend}, capture_output=True, text=True
    )
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]


def main() -> int:
    """0 as soon as one backend works."""
    reasons = {}
    for backend in BACKENDS:
        why = reason(backend)
        if why is None:
            print(f"== rendering: {backend}")
            return 0
        reasons[backend] = why
    print(HELP, *(f"    {backend}: {why}" for backend, why in reasons.items()), sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
