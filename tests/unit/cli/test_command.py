"""What a shell sees of a command: exit codes, one line on stderr, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pa_lib.cli.command import FAILED, INTERRUPTED, OK, USAGE, Command, command, entry_point
from pa_lib.cli.compose import ConfigError
from pa_lib.errors import PaLibError


def raising(error: BaseException, **settings: str) -> Command:
    def body(arguments: list[str]) -> int:
        raise error

    return Command("pa-test", body, **settings)


def test_a_command_gets_its_arguments_and_gives_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    @command("pa-test")
    def main(arguments: list[str]) -> int:
        return len(arguments)

    monkeypatch.setattr(sys, "argv", ["pa-test", "one", "two"])
    assert main() == 2  # those of the process
    assert main([]) == OK
    with pytest.raises(SystemExit) as end:
        entry_point(main)()
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("error", "settings", "code", "line"),
    [
        (PaLibError("no such file"), {}, FAILED, "pa-test: error: no such file"),
        (ConfigError("no such setting"), {}, USAGE, "pa-test: error: no such setting"),
        (KeyboardInterrupt(), {}, INTERRUPTED, "pa-test: interrupted"),
        (KeyboardInterrupt(), {"interrupted": "all is safe"}, INTERRUPTED, "pa-test: interrupted; all is safe"),
        (KeyboardInterrupt("go on"), {"interrupted": "all is safe"}, INTERRUPTED, "pa-test: interrupted; go on"),
    ],
)
def test_expected_failures_are_one_line(
    error: BaseException, settings: dict[str, str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error, **settings)([]) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_is_one_line_unless_it_is_to_be_debugged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PA_DEBUG", raising=False)
    run = entry_point(raising(ZeroDivisionError("by\nzero")))
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == FAILED
    assert capsys.readouterr().err == ("pa-test: error: ZeroDivisionError: by zero (a bug: PA_DEBUG=1 shows where)\n")
    monkeypatch.setenv("PA_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run()


SCRIPT = """
import pathlib, sys, time
from pa_lib.cli.command import Command, entry_point

def body(arguments):
    for line in range(20000):
        print("line", line)
    path = pathlib.Path(arguments[0])
    try:
        path.touch()
        time.sleep(60)
    finally:
        path.unlink()

entry_point(Command("pa-test", body, is_ended_by_sigterm=True))()
"""


def test_sigterm_runs_what_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "unfinished"
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.DEVNULL)
    while not path.exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGTERM
    assert not path.exists()


@pytest.mark.parametrize(("encoding", "written"), [("utf-8", "é 😀".encode()), ("ascii", b"\\xe9 \\U0001f600")])
def test_names_of_files_go_out_as_they_came(encoding: str, written: bytes) -> None:
    """Also those that are no UTF-8, and on terminals that lack their letters."""
    script = (
        "import os\nfrom pa_lib.cli.command import Command, entry_point\n"
        "name = os.fsdecode(b'\\xff') + ' \\xe9 \\U0001f600'\n"
        "entry_point(Command('pa-test', lambda arguments: print(name) or 0))()"
    )
    settings = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=settings, check=False)
    assert (done.returncode, done.stdout) == (0, b"\xff " + written + b"\n")


def test_a_closed_pipe_is_no_bug(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "never")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.wait(timeout=30) == 128 + signal.SIGPIPE
    assert running.stderr.read() == ""
    running.stderr.close()
