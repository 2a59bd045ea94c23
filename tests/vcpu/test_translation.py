"""The translator's process as the coordinator sees it: what it says, how it dies, when another one is started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpemu.isa.profiles import IsaSpec
from mpemu.layout import KNOWN_GUEST_FACTOR, POINTS_PER_SAMPLE
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.vcpu import translation as module
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.blob_file import BlobFile, encode_blob
from mpemu.vcpu.translation import Translation, TranslationSettings

MEMORY = 1 << 20


class Case:
    """A Translation whose process runs ``script`` instead, with the mapped TRANSLATOR as ``view``."""

    def __init__(self, script: str, monkeypatch: pytest.MonkeyPatch, interpreter: Path = Path()) -> None:
        head = (
            "import mmap, os, sys, time\n"
            "from mpemu.layout import TRANSLATOR\n"
            "view = TRANSLATOR.view(mmap.mmap(int(sys.argv[3]), TRANSLATOR.size))\n"
            "wait = lambda: os.eventfd_read(int(sys.argv[6]))\n"
        )
        real = module.subprocess.Popen

        def popen(command: list[str], **options: Any) -> Any:
            assert command[1:3] == ["-m", "mpemu.codegen.translator"]
            return real([sys.executable, "-c", head + script, *command[3:]], **options)

        monkeypatch.setattr(module.subprocess, "Popen", popen)
        self.memory = MachineMemory(2, MEMORY)
        self.loop = MainLoop()
        self.said: list[str] = []
        blob = Blob(BlobFile(b"\xc3", {}), interpreter)
        self.translation = Translation(blob, self.memory, IsaSpec.parse("rv64gc"), TranslationSettings(3, 40))
        self.translation.attach(self.loop, self.said.append)

    @property
    def view(self) -> Any:
        return self.translation.view

    def run_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Run the loop until the condition holds."""
        limit = time.monotonic() + seconds

        def look() -> None:
            if condition() or time.monotonic() > limit:
                self.loop.quit()
            else:
                self.loop.asyncio.call_later(0.005, look)

        self.loop.call_soon(look)
        self.loop.run()
        assert condition()

    def close(self) -> None:
        self.translation.close()
        self.loop.close()
        self.memory.close()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Case]]:
    cases: list[Case] = []

    def make(script: str) -> Case:
        cases.append(Case(script, monkeypatch))
        return cases[-1]

    yield make
    for case in cases:
        case.close()


def test_the_harts_know_of_it(start: Callable[[str], Case]) -> None:
    case = start("wait()")
    assert case.memory.translator is case.view
    assert [case.memory.hart(index).hotness for index in range(2)] == [3 * POINTS_PER_SAMPLE] * 2
    assert case.memory.hart(0).hotness_known == 3 * KNOWN_GUEST_FACTOR * POINTS_PER_SAMPLE
    assert case.memory.hart(0).translator == case.memory.hart(1).translator != 0


def test_it_may_finish_what_it_does(start: Callable[[str], Case]) -> None:
    case = start("view.ready = 1; wait(); assert view.stop; time.sleep(0.2); view.published = 7; sys.exit(3)")
    case.run_until(lambda: case.view.ready == 1)
    published: list[int] = []
    real = case.translation._let_go

    def let_go() -> int:
        published.append(case.view.published)
        return real()

    case.translation._let_go = let_go  # type: ignore[method-assign]
    case.translation.close()
    assert published == [7]
    case.translation.close = lambda: None  # type: ignore[method-assign]


def test_its_last_words_are_passed_on(start: Callable[[str], Case]) -> None:
    case = start("view.ready = 1; wait(); print('the disk is full', file=sys.stderr)")
    case.run_until(lambda: case.view.ready == 1)
    case.translation.close()
    assert case.said == ["the disk is full"]
    case.translation.close = lambda: None  # type: ignore[method-assign]


def test_it_is_not_waited_for_for_ever(start: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    case = start("view.ready = 1; time.sleep(60)")
    case.run_until(lambda: case.view.ready == 1)
    began = time.monotonic()
    case.translation.close()
    assert time.monotonic() - began < 30
    case.translation.close = lambda: None  # type: ignore[method-assign]


def test_one_that_has_not_begun_is_not_waited_for(start: Callable[[str], Case]) -> None:
    case = start("time.sleep(60)")
    began = time.monotonic()
    case.translation.close()
    assert time.monotonic() - began < module.PATIENCE_S
    case.translation.close = lambda: None  # type: ignore[method-assign]


def test_a_killed_one_is_replaced_for_ever(start: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    case = start("view.published += 1; os.kill(os.getpid(), 9)")
    case.run_until(lambda: case.view.published > 8)
    assert case.view.restarts >= 8
    assert case.said == ["the translator was killed by SIGKILL; it is started anew"]


def test_the_interpreter_is_there_when_the_cache_has_been_cleared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "some.blob"
    file.write_bytes(encode_blob(BlobFile(b"\xc3", {"r_answer": 0})))
    read = "from pathlib import Path; from mpemu.vcpu.blob_file import read_blob; path = Path(sys.argv[2]);"
    count = "view.published += path.exists() < len(read_blob(path, int(sys.argv[7])).code); os.kill(os.getpid(), 9)"
    case = Case(f"{read} wait() if not view.restarts else None; {count}", monkeypatch, file)
    try:
        file.unlink()
        os.eventfd_write(case.translation.doorbell, 1)
        case.run_until(lambda: case.view.published == 3)
    finally:
        case.close()


def test_pauses_get_longer(start: Callable[[str], Case]) -> None:
    case = start("view.published += 1; os.kill(os.getpid(), 9)")
    began = time.monotonic()
    case.run_until(lambda: case.view.published == 5)
    assert time.monotonic() - began > 0.05 + 0.1 + 0.2


def test_one_that_gives_up_again_and_again_is_left_alone(
    start: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    case = start("view.published += 1; raise ImportError('no msgpack')")
    case.run_until(lambda: case.said[-1:] == ["the translator keeps failing; the guest runs on, interpreted"])
    assert case.view.published == module.MOST_FAILURES + 1
    assert case.said[:-1] == ["ImportError: no msgpack"] * module.MOST_WORDS
    published = case.view.published
    time.sleep(0.1)
    assert case.view.published == published


def test_its_words_are_passed_on_but_not_all_of_them(start: Callable[[str], Case]) -> None:
    case = start("[print(f'word {n}', file=sys.stderr, flush=True) for n in range(99)]; view.published = 1; wait()")
    case.run_until(lambda: case.view.published == 1 and len(case.said) >= module.MOST_WORDS)
    assert case.said == [f"word {n}" for n in range(module.MOST_WORDS)]


def test_one_that_dies_before_the_machine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has attached yet: the memory is given back all the same."""
    monkeypatch.setattr(Translation, "attach", lambda *_: None)
    case = Case("os.kill(os.getpid(), 9)", monkeypatch)
    case.close()
