"""Random programs end in the same state on the reference model, QEMU and mpemu (hashes of all registers and memory)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mpemu.isa.profiles import IsaSpec
from mpemu.isa.reference import PhysicalBus, ReferenceHart
from tests.system.emulators import emulator
from tests.system.random_programs import (
    SCRATCH_WORDS,
    Generator,
    Image,
    Program,
    State,
    hash_state,
    initial_scratch,
    make_image,
)

ISA = "rv64gc_zba_zbb_zbc_zbs"
RAM_BASE = 0x8000_0000
FS_DIRTY = 3 << 13
STEPS = 20_000
"""More than any program executes."""


def run_reference(image: Image, index: int, program: Program) -> tuple[int, int]:
    """(address of the ecall that it reached, hash of the final state)."""
    end = image.addresses[index] + len(program.code) - 4
    bus = PhysicalBus(bytearray(max(image.scratch + 4096, end + 4096) - RAM_BASE))
    offset = image.addresses[index] - RAM_BASE
    bus.ram[offset : offset + len(program.code)] = program.code
    at = image.scratch - RAM_BASE
    bus.ram[at : at + 8 * SCRATCH_WORDS] = struct.pack(f"<{SCRATCH_WORDS}Q", *initial_scratch(index))
    hart = ReferenceHart(IsaSpec.parse(ISA), bus)
    state = image.initial(program)
    hart.reset(image.addresses[index])
    hart.x.values[:32] = state.x
    hart.f.values[:] = state.f
    hart.s.values.update(mstatus=hart.s.values["mstatus"] | FS_DIRTY, frm=state.fcsr >> 5)
    for _ in range(STEPS):
        if hart.s.values["pc"] == end:
            break
        hart.step()
    assert hart.s.values["pc"] == end, f"program {index} left its code: pc {hart.s.values['pc']:#x}"
    fcsr = hart.s.values["frm"] << 5 | hart.fflags
    scratch = list(struct.unpack(f"<{SCRATCH_WORDS}Q", bus.ram[at : at + 8 * SCRATCH_WORDS]))
    return end, hash_state(State(tuple(hart.x.values[:32]), tuple(hart.f.values), fcsr), scratch)


def report(name: str, image: Image, path: Path, append: str = "") -> list[str]:
    """The runner's lines, one per program."""
    path.write_bytes(image.elf)
    result = emulator(name)(path, append=append)
    assert result.code == 0, result.console + result.messages
    return [line for line in result.console.splitlines() if ": cause " in line]


@pytest.mark.parametrize("seed", range(2))
def test_reference_model_agrees_with_qemu(seed: int, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    generator = Generator(seed)
    programs = [generator.program() for _ in range(40)]
    image = make_image(guest_programs["random"], programs)
    lines = report("qemu", image, tmp_path / "random.elf")
    for index, program in enumerate(programs):
        end, digest = run_reference(image, index, program)
        assert lines[index] == f"{index}: cause 11 at {end:x}, {digest:x}", f"seed {seed}, program {index}"


@pytest.mark.parametrize("mode", [3, 1], ids=["M-mode", "S-mode"])
@pytest.mark.parametrize("name", ["mpemu", "deterministic"])
def test_mpemu_agrees_with_qemu(name: str, mode: int, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    generator = Generator(100 + mode)
    image = make_image(guest_programs["random"], [generator.program() for _ in range(150)])
    expected = report("qemu", image, tmp_path / "random.elf", f"mode={mode}")
    assert report(name, image, tmp_path / "random.elf", f"mode={mode}") == expected


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_mpemu_agrees_with_qemu_for_long(seed: int, guest_programs: dict[str, Path], tmp_path: Path) -> None:
    generator = Generator(seed)
    image = make_image(guest_programs["random"], [generator.program() for _ in range(500)])
    expected = report("qemu", image, tmp_path / "random.elf")
    assert report("mpemu", image, tmp_path / "random.elf") == expected
