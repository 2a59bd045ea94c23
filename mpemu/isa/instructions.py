"""All of the ISA: importing this module fills the instruction table (``registry.INSNS``) and the routines
(``hart.ROUTINES``). Who needs the table imports it; a vCPU or the coordinator does not, and starts sooner."""

from mpemu.isa import mmu as mmu
from mpemu.isa import rv_a as rv_a
from mpemu.isa import rv_c as rv_c
from mpemu.isa import rv_cbo as rv_cbo
from mpemu.isa import rv_d as rv_d
from mpemu.isa import rv_f as rv_f
from mpemu.isa import rv_i as rv_i
from mpemu.isa import rv_m as rv_m
from mpemu.isa import rv_zb as rv_zb
from mpemu.isa import rv_zfh as rv_zfh
from mpemu.isa import system as system
from mpemu.isa import trap as trap
