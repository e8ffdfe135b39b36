"""How a command ends when it does not end well: one line on standard error and an exit status, no traceback.

1 for what the command could not do, 2 for how it was called, 130 after Ctrl-C, 141 when nobody reads any more, 143
after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from modelkin.failures import expected_errors, message_of
from modelkin.plain import plain
from modelkin.stopping import StoppedError

__all__ = ["Commands"]

_WRITING = ("index", "crawl", "update", "nightly")


class Commands(TyperGroup):
    """The group of all commands, which gives each of them these endings."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(141) from None
        except KeyboardInterrupt:
            _end_at_once_next_time()
            kept = "; what was read so far is kept: run the same command again and it goes on from there"
            _tell("stopped" + (kept if ctx.invoked_subcommand in _WRITING else ""))
            raise typer.Exit(130) from None
        except StoppedError as error:
            _tell(str(error))
            raise typer.Exit(143) from None
        except expected_errors() as error:
            _tell(f"error: {message_of(error)}")
            raise typer.Exit(1) from None
        return result


def _end_at_once_next_time() -> None:
    """A second Ctrl-C, while threads are waited for, ends the process without a traceback."""
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _tell(text: str) -> None:
    with suppress(OSError):
        print(plain(text, lines=True), file=sys.stderr, flush=True)


def _forget_output() -> None:
    """Let the interpreter flush what is left into nothing: it would complain about the pipe on its way out."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
