"""Programs of a benchmark: their output, and that none of them is waited for in vain or left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bench.process import ROOT, ProcessError, run
from tests.processes import running, wait_until


def python(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def test_output_and_environment() -> None:
    assert run(python("import os; print(os.environ['ASKED'])"), 30, {"ASKED": "yes"}) == "yes\n"


def test_a_failure_says_the_code_and_the_last_words() -> None:
    with pytest.raises(ProcessError, match=r"exit code 3.*\n(.*\n)*no such thing") as error:
        run(python("import sys; print('one'); sys.stderr.write('no such thing'); sys.exit(3)"), 30)
    assert error.value.output == "one\n"


def test_a_program_that_falls_silent_is_ended_with_its_children() -> None:
    start = time.monotonic()
    with pytest.raises(ProcessError, match="nothing more came") as error:
        run(["sh", "-c", "sleep 1000 & echo $!; wait"], 1.0)
    assert time.monotonic() - start < 30
    child = int(error.value.output)
    assert wait_until(lambda: not running(child))


def test_a_program_that_goes_on_talking_is_not_silent() -> None:
    assert run(["sh", "-c", "for n in 0 1 2 3 4 5; do echo $n; sleep 0.4; done"], 1.5).split() == list("012345")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_takes_the_program_along(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    outer = f"""
    import signal, sys
    from bench.process import run
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run([sys.executable, "-c", {inner!r}], 100)
    """
    with subprocess.Popen(python(outer), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert wait_until(lambda: note.exists() and note.read_text() != "")
        os.kill(process.pid, number)
        assert process.wait(20) != 0
    assert not running(int(note.read_text()))
