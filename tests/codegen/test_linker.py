"""From IR to a blob: what can be linked, what is refused, and on which hosts."""

from __future__ import annotations

import re

import pytest

from mpemu.codegen.compiler import check_host, compile_object
from mpemu.codegen.host import UnsupportedHost, host_of
from mpemu.codegen.interpreter import FIRST_SECTION
from mpemu.codegen.linker import LinkError, link_interpreter
from mpemu.vcpu.blob import Blob
from mpemu.vcpu.blob_file import BlobFile

FIRST = f'define dso_local i64 @first() section "{FIRST_SECTION}" {{\n ret i64 1\n}}\n'
TABLE = "@handler_offsets = dso_local global [2 x i32] zeroinitializer\n"
ANSWER = "@number = internal constant i64 42\ndefine dso_local i64 @r_answer() {\n %v = load i64, ptr @number\n"
ANSWER += " %w = call i64 @first()\n %s = add i64 %v, %w\n ret i64 %s\n}\n"


def test_code_that_refers_to_code_and_constants_runs_anywhere() -> None:
    linked = link_interpreter(compile_object(TABLE + ANSWER + FIRST), ("first", "r_answer"))
    assert linked.symbols["first"] == 0
    for _ in range(2):  # mapped at two addresses
        assert Blob(BlobFile(linked.data, linked.symbols)).routine("answer", 0)(0) == 43


def test_the_table_of_handlers_is_filled_in() -> None:
    linked = link_interpreter(compile_object(TABLE + ANSWER + FIRST), ("first", "r_answer"))
    start = linked.symbols["handler_offsets"]
    table = [int.from_bytes(linked.data[start + 4 * n : start + 4 * n + 4], "little") for n in range(2)]
    assert table == [0, linked.symbols["r_answer"]]


@pytest.mark.parametrize(
    ("ir", "handlers", "message"),
    [
        ("declare i64 @memset()\ndefine i64 @f() {\n %v = call i64 @memset()\n ret i64 %v\n}\n", ("first",), "memset"),
        ("@p = dso_local global ptr @first\n", ("first",), "relocation of type"),
        ("", ("r_answer",), "r_answer is not at offset 0"),
        ("", ("first", "missing"), "no symbol missing"),
    ],
    ids=["undefined", "absolute", "order", "handler"],
)
def test_what_a_blob_can_not_have(ir: str, handlers: tuple[str, ...], message: str) -> None:
    with pytest.raises(LinkError, match=re.escape(message)):
        link_interpreter(compile_object(TABLE + ANSWER + FIRST + ir), handlers)


def test_a_module_without_the_table() -> None:
    with pytest.raises(LinkError, match="no symbol handler_offsets"):
        link_interpreter(compile_object(FIRST), ("first",))


def test_wrong_ir_is_an_error_with_llvms_words() -> None:
    with pytest.raises(RuntimeError, match="use of undefined value"):
        compile_object("define i64 @f() {\n ret i64 %nothing\n}\n")


# -- hosts
def test_this_host_will_do() -> None:
    check_host()


@pytest.mark.parametrize(
    ("architecture", "missing", "advice"),
    [("x86_64", name, "use a CPU of 2013") for name in host_of("x86_64").NEEDED]
    + [("aarch64", name, "use a CPU with Armv8.1-A") for name in host_of("aarch64").NEEDED],
)
def test_a_cpu_without_what_the_code_needs(architecture: str, missing: str, advice: str) -> None:
    features = dict.fromkeys(host_of(architecture).NEEDED, True)
    check_host(architecture, features)
    with pytest.raises(UnsupportedHost, match=rf"lacks {re.escape(missing)}, which .*{advice}"):
        check_host(architecture, features | {missing: False})


def test_another_architecture() -> None:
    with pytest.raises(UnsupportedHost, match="this machine is riscv64; mpemu generates code for x86_64 and aarch64"):
        check_host("riscv64", {})
