"""Single key presses from a terminal, without waiting for Enter and without blocking."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty


class SingleKeys:
    """Puts standard input into single-key mode if it is a terminal; `close` puts it back. Ctrl-C still interrupts."""

    def __init__(self) -> None:
        # In the background of a shell, changing the terminal would stop the process.
        self.available = sys.stdin is not None and sys.stdin.isatty() and _in_foreground(sys.stdin.fileno())
        if self.available:
            self._file = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)

    def read(self) -> str:
        """All keys pressed since the last call; empty if none."""
        pressed = b""
        while self.available and select.select([self._file], [], [], 0.0)[0]:
            read = os.read(self._file, 64)
            if not read:
                break
            pressed += read
        return pressed.decode(errors="replace")

    def close(self) -> None:
        """Put the terminal back."""
        if self.available:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
            self.available = False


def _in_foreground(file: int) -> bool:
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:  # a terminal, but not the one that controls this process
        return False
