from mpemu.isa import rv_d as rv_d
from mpemu.isa import rv_f as rv_f
from mpemu.isa import rv_zfh as rv_zfh
