"""C and Zcb: 16-bit encodings, each standing for a base instruction. Unprivileged ISA, chapters "C" and "Zc".

A form listed with ``nonzero`` is reserved, or another form, where that field is zero. Forms that write x0 are hints and
expand to a base instruction that does the same.
"""

from __future__ import annotations

from mpemu.isa.registry import compressed

# -- quadrant 0: loads and stores relative to a register
compressed("c.addi4spn", "000 uimm[5:4|9:6|2|3] rd' 00", "{rd}, sp, {uimm}", "addi rd rs1=2 imm=uimm", nonzero="uimm")
compressed("c.fld", "001 uimm[5:3] rs1' uimm[7:6] fd' 00", "{fd}, {uimm}({rs1})", "fld fd rs1 imm=uimm")
compressed("c.lw", "010 uimm[5:3] rs1' uimm[2|6] rd' 00", "{rd}, {uimm}({rs1})", "lw rd rs1 imm=uimm")
compressed("c.ld", "011 uimm[5:3] rs1' uimm[7:6] rd' 00", "{rd}, {uimm}({rs1})", "ld rd rs1 imm=uimm")
compressed("c.fsd", "101 uimm[5:3] rs1' uimm[7:6] fs2' 00", "{fs2}, {uimm}({rs1})", "fsd fs2 rs1 imm=uimm")
compressed("c.sw", "110 uimm[5:3] rs1' uimm[2|6] rs2' 00", "{rs2}, {uimm}({rs1})", "sw rs2 rs1 imm=uimm")
compressed("c.sd", "111 uimm[5:3] rs1' uimm[7:6] rs2' 00", "{rs2}, {uimm}({rs1})", "sd rs2 rs1 imm=uimm")

# -- quadrant 1: arithmetic and jumps
compressed("c.nop", "000 imm[5] 00000 imm[4:0] 01", "", "addi rd=0 rs1=0 imm")
compressed("c.addi", "000 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addi rd rs1=rd imm")
compressed("c.addiw", "001 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addiw rd rs1=rd imm", nonzero="rd")
compressed("c.li", "010 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addi rd rs1=0 imm")
compressed("c.addi16sp", "011 imm[9] 00010 imm[4|6|8:7|5] 01", "sp, {imm}", "addi rd=2 rs1=2 imm", nonzero="imm")
compressed("c.lui", "011 imm[17] rd imm[16:12] 01", "{rd}, {imm:upper}", "lui rd imm", nonzero="imm")
compressed("c.srli", "100 shamt[5] 00 rd' shamt[4:0] 01", "{rd}, {shamt}", "srli rd rs1=rd shamt")
compressed("c.srai", "100 shamt[5] 01 rd' shamt[4:0] 01", "{rd}, {shamt}", "srai rd rs1=rd shamt")
compressed("c.andi", "100 imm[5] 10 rd' imm[4:0] 01", "{rd}, {imm}", "andi rd rs1=rd imm")
compressed("c.sub", "100 0 11 rd' 00 rs2' 01", "{rd}, {rs2}", "sub rd rs1=rd rs2")
compressed("c.xor", "100 0 11 rd' 01 rs2' 01", "{rd}, {rs2}", "xor rd rs1=rd rs2")
compressed("c.or", "100 0 11 rd' 10 rs2' 01", "{rd}, {rs2}", "or rd rs1=rd rs2")
compressed("c.and", "100 0 11 rd' 11 rs2' 01", "{rd}, {rs2}", "and rd rs1=rd rs2")
compressed("c.subw", "100 1 11 rd' 00 rs2' 01", "{rd}, {rs2}", "subw rd rs1=rd rs2")
compressed("c.addw", "100 1 11 rd' 01 rs2' 01", "{rd}, {rs2}", "addw rd rs1=rd rs2")
compressed("c.j", "101 imm[11|4|9:8|10|6|7|3:1|5] 01", "{imm:pc}", "jal rd=0 imm")
compressed("c.beqz", "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "{rs1}, {imm:pc}", "beq rs1 rs2=0 imm")
compressed("c.bnez", "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "{rs1}, {imm:pc}", "bne rs1 rs2=0 imm")

# -- quadrant 2: loads and stores relative to sp, register jumps and moves
compressed("c.slli", "000 shamt[5] rd shamt[4:0] 10", "{rd}, {shamt}", "slli rd rs1=rd shamt")
compressed("c.fldsp", "001 uimm[5] fd uimm[4:3|8:6] 10", "{fd}, {uimm}(sp)", "fld fd rs1=2 imm=uimm")
compressed("c.lwsp", "010 uimm[5] rd uimm[4:2|7:6] 10", "{rd}, {uimm}(sp)", "lw rd rs1=2 imm=uimm", nonzero="rd")
compressed("c.ldsp", "011 uimm[5] rd uimm[4:3|8:6] 10", "{rd}, {uimm}(sp)", "ld rd rs1=2 imm=uimm", nonzero="rd")
compressed("c.jr", "100 0 rs1 00000 10", "{rs1}", "jalr rd=0 rs1 imm=0", nonzero="rs1")
compressed("c.mv", "100 0 rd rs2 10", "{rd}, {rs2}", "add rd rs1=0 rs2", nonzero="rs2")
compressed("c.ebreak", "100 1 00000 00000 10", "", "ebreak")
compressed("c.jalr", "100 1 rs1 00000 10", "{rs1}", "jalr rd=1 rs1 imm=0", nonzero="rs1")
compressed("c.add", "100 1 rd rs2 10", "{rd}, {rs2}", "add rd rs1=rd rs2", nonzero="rs2")
compressed("c.fsdsp", "101 uimm[5:3|8:6] fs2 10", "{fs2}, {uimm}(sp)", "fsd fs2 rs1=2 imm=uimm")
compressed("c.swsp", "110 uimm[5:2|7:6] rs2 10", "{rs2}, {uimm}(sp)", "sw rs2 rs1=2 imm=uimm")
compressed("c.sdsp", "111 uimm[5:3|8:6] rs2 10", "{rs2}, {uimm}(sp)", "sd rs2 rs1=2 imm=uimm")

# -- Zcb. The extensions and the multiplication also need the extension of their base instruction (Zbb, Zba, M).
compressed("c.lbu", "100 000 rs1' uimm[0|1] rd' 00", "{rd}, {uimm}({rs1})", "lbu rd rs1 imm=uimm", ext="Zcb")
compressed("c.lhu", "100 001 rs1' 0 uimm[1] rd' 00", "{rd}, {uimm}({rs1})", "lhu rd rs1 imm=uimm", ext="Zcb")
compressed("c.lh", "100 001 rs1' 1 uimm[1] rd' 00", "{rd}, {uimm}({rs1})", "lh rd rs1 imm=uimm", ext="Zcb")
compressed("c.sb", "100 010 rs1' uimm[0|1] rs2' 00", "{rs2}, {uimm}({rs1})", "sb rs2 rs1 imm=uimm", ext="Zcb")
compressed("c.sh", "100 011 rs1' 0 uimm[1] rs2' 00", "{rs2}, {uimm}({rs1})", "sh rs2 rs1 imm=uimm", ext="Zcb")
compressed("c.zext.b", "100 1 11 rd' 11 000 01", "{rd}", "andi rd rs1=rd imm=255", ext="Zcb")
compressed("c.sext.b", "100 1 11 rd' 11 001 01", "{rd}", "sext.b rd rs1=rd", ext="Zcb")
compressed("c.zext.h", "100 1 11 rd' 11 010 01", "{rd}", "zext.h rd rs1=rd", ext="Zcb")
compressed("c.sext.h", "100 1 11 rd' 11 011 01", "{rd}", "sext.h rd rs1=rd", ext="Zcb")
compressed("c.zext.w", "100 1 11 rd' 11 100 01", "{rd}", "add.uw rd rs1=rd rs2=0", ext="Zcb")
compressed("c.not", "100 1 11 rd' 11 101 01", "{rd}", "xori rd rs1=rd imm=-1", ext="Zcb")
compressed("c.mul", "100 1 11 rd' 10 rs2' 01", "{rd}, {rs2}", "mul rd rs1=rd rs2", ext="Zcb")
