"""The RISC-V ISA: instruction definitions, the language they are written in, and the reference model.

``mpemu.isa.instructions`` imports all definitions.
"""
