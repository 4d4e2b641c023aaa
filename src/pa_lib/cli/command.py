"""What every command does around its own work: exit codes, errors of one line, signals, ``PA_DEBUG``."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from pa_lib.cli.compose import process_rank
from pa_lib.errors import PaLibError, SettingError

_AS_IT_CAME = "pa_lib.as_it_came"

OK, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; failed; wrong command line; done in part (each command says which part); interrupted."""


class Command:
    """A command of pa_lib: a function of the command line's arguments that returns an exit code.

    Calling it runs the function and turns each expected failure into one line on stderr and an exit code: `USAGE` for a
    `ConfigError` and other `SettingError`, `FAILED` for every other `PaLibError`, `INTERRUPTED` for Ctrl-C. Unexpected
    exceptions pass: they are bugs, and `entry_point` reports them.

    Args:
        name: Name of the installed command, e.g. ``pa-train``; every line on stderr begins with it.
        body: Function of the arguments without the command's name that returns the exit code.
        interrupted: State of the output after Ctrl-C, for the message. The text of the `KeyboardInterrupt` comes first.
        is_ended_by_sigterm: Whether SIGTERM raises `SystemExit`, so that unfinished files are removed. Leave it False
            where a library (Lightning) handles the signal.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[list[str]], int],
        *,
        interrupted: str = "",
        is_ended_by_sigterm: bool = False,
    ) -> None:
        self.name, self.body = name, body
        self.interrupted, self.is_ended_by_sigterm = interrupted, is_ended_by_sigterm

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command and return its exit code.

        Args:
            arguments: The command line without the command's name. None: that of this process.
        """
        if self.is_ended_by_sigterm:
            signal.signal(signal.SIGTERM, _exit)
        try:
            return self.body(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt as stop:
            state = str(stop) or self.interrupted
            print(f"{self.name}: interrupted" + (f"; {state}" if state else ""), file=sys.stderr)
            return INTERRUPTED
        except PaLibError as error:
            process = f" (process {rank})" if (rank := process_rank()) else ""
            print(f"{self.name}: error{process}: {error}", file=sys.stderr)
            return USAGE if isinstance(error, SettingError) else FAILED


def command(
    name: str, *, interrupted: str = "", is_ended_by_sigterm: bool = False
) -> Callable[[Callable[[list[str]], int]], Command]:
    """Decorator that makes a `Command` of a function; see there for the arguments."""

    def decorate(body: Callable[[list[str]], int]) -> Command:
        return Command(name, body, interrupted=interrupted, is_ended_by_sigterm=is_ended_by_sigterm)

    return decorate


def entry_point(main: Command) -> Callable[[], NoReturn]:
    """The function that an installed command calls: it runs `main` and ends the process with its exit code.

    An unexpected exception is reported in one line with exit code 1; the environment variable ``PA_DEBUG=1`` shows its
    traceback instead. A reader that closes the pipe early (``pa-compare ... | head``) is no failure.
    """

    def run() -> NoReturn:
        for stream in (sys.stdout, sys.stderr):  # names of files go out as they came, whatever bytes they are
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=_AS_IT_CAME)
        if os.environ.get("PA_DEBUG"):
            sys.exit(main())
        try:
            code = main()
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails at its own flush
            code = 128 + signal.SIGPIPE
        except Exception as error:
            line = " ".join(str(error).split())
            print(
                f"{main.name}: error: {type(error).__name__}: {line} (a bug: PA_DEBUG=1 shows where)", file=sys.stderr
            )
            code = FAILED
        sys.exit(code)

    return run


def _as_it_came(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that Python could not decode are written as they are; letters that a terminal lacks, as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(_AS_IT_CAME, _as_it_came)


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)
