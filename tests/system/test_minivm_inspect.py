"""What is seen of a machine: profile, times, steps, dumps, page tables; against gdb, pyelftools and the guest's own words."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from struct import pack

import pytest
from elftools.elf.elffile import ELFFile

import minivm.boot

LIMIT = 90
GUEST = Path(minivm.boot.__file__).with_name("guest.elf")
HELLO16 = str(GUEST.with_name("hello16.bin"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]


def minivm_(*words: object, typed: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", *map(str, words)]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """(file of one boot, what --profile said of the same boot)."""
    path = tmp_path_factory.mktemp("trace") / "run.jsonl"
    done = minivm_("run", "--trace", path, "--profile", "--format", "json", typed="exit 3\n", status=3)
    return path, json.loads(done.stderr.splitlines()[-1])


def test_exits_are_counted_by_the_function_that_gdb_finds_there_too(trace):
    _, report = trace
    out = [row for row in report["profile"] if row["what"] == "out 0x3f8"]
    assert [row["function"] for row in out] == ["uart_put"] and out[0]["device"] == "uart"
    assert sum(row["count"] for row in report["profile"]) == sum(row["count"] for row in report["exits"])
    assert {"function": "power_off", "what": "out 0x501"}.items() <= next(
        row for row in report["profile"] if row["device"] == "debug-exit"
    ).items()


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_the_code_at_an_exit_is_what_objdump_has_there(trace):
    _, report = trace
    for site in report["sites"]:
        exits = [line for line in site["code"] if line["exits"]]
        assert len(exits) == 1 and exits[0]["text"].split()[0] in ("in", "out")
        place = exits[0]["address"]
        words = ["objdump", "-d", "-M", "intel", f"--start-address={place}", f"--stop-address={place + 1}", str(GUEST)]
        listing = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        mnemonic = re.search(rf"^ +{place:x}:\t[0-9a-f ]+\t(\w+)", listing, re.M)[1]
        assert mnemonic == exits[0]["text"].split()[0]


def test_a_trace_gives_the_same_counts_afterwards(trace):
    path, report = trace
    again = json.loads(minivm_("exits", path, "--format", "json").stdout)
    key = [(row["what"], row["function"], row["count"]) for row in report["profile"]]
    assert [(row["what"], row["function"], row["count"]) for row in again["profile"]] == key
    text = minivm_("exits", path).stdout
    assert re.search(r"\d+ +█.* IO out 0x3f8 \(uart\)  uart_put$", text, re.M) and "=> " in text


def test_the_time_is_divided_and_the_parts_make_the_whole():
    times = json.loads(minivm_("run", "--stats", "--format", "json").stderr.splitlines()[-1])["times"]["vcpu0"]
    assert times["kvm_run"] + times["c"] + times["python"] == pytest.approx(times["wall"], rel=0.01)
    assert times["kvm_run"] > times["python"] > 0 and times["c"] > 0 and times["entries"] > 1000
    assert "in KVM_RUN" in minivm_("run", "--stats").stderr


def test_kvm_counts_as_many_exits_by_mmio_as_we_do(tmp_path):
    program = tmp_path / "reads.bin"  # mov ax, 0xffff; mov ds, ax; mov cx, 70; 1: mov al, [0x10]; loop 1b; and the end
    program.write_bytes(bytes.fromhex("b8 ff ff 8e d8  b9 46 00  a0 10 00  e2 fb  ba 01 05 31 c0 ee"))
    words = ("run", program, "--boot", "flat16", "-m", "1m", "--stats", "--format")
    report = json.loads(minivm_(*words, "json").stderr)
    (count,) = (row["count"] for row in report["exits"] if row["reason"] == "KVM_EXIT_MMIO")
    assert report["times"]["vcpu0"]["kvm"]["mmio_exits"] == count == 70
    assert "mmio_exits 70" in minivm_(*words, "text").stderr
    assert "mmio_exits 70" in minivm_(*words, "text", "--jail").stderr


def test_steps_show_what_each_instruction_changed():
    lines = [json.loads(line) for line in minivm_("run", "--step", 90, "--format", "json").stderr.splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 91))
    for line, after in pairwise(lines):
        if line["text"].split()[0] in ("mov", "lea", "push", "xor", "out"):
            assert after["address"] == line["address"] + len(line["code"]) // 2, line
        if line["text"].startswith("push"):
            assert line["changes"]["rsp"]["before"] - line["changes"]["rsp"]["after"] == 8
    assert lines[0]["where"] == "start" and any(line["exits"] == ["KVM_EXIT_IO"] for line in lines)
    outs = [line for line in lines if line["text"].startswith("out")]
    assert outs and all(line["exits"] == ["KVM_EXIT_IO"] and not set(line["changes"]) - {"rip"} for line in outs), "one at a time"
    text = minivm_("run", "--step", 3).stderr
    assert re.search(r"^ +3 +100009 +start\+0x9 +call 0x\w+ +rsp 0x\w+ -> 0x\w+$", text, re.M)


def test_sixteen_bit_code_can_be_stepped_through_to_its_end():
    done = minivm_("run", HELLO16, "--boot", "flat16", "--step", 100000, "--format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.stdout.startswith("Hello from 16-bit") and {line["bits"] for line in lines} == {16}
    assert lines[-1]["exits"] == ["KVM_EXIT_IO"] and 100 < len(lines) < 100000


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    path = tmp_path_factory.mktemp("core") / "guest.core"
    minivm_("run", "--dump", path, "--cpus", 2, "--cmdline", "found in the dump")
    return path


def test_a_dump_is_sparse_and_pyelftools_reads_it(core):
    assert core.stat().st_size > 64 << 20 and core.stat().st_blocks * 512 < 4 << 20
    with core.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        notes = [note for segment in elf.iter_segments("PT_NOTE") for note in segment.iter_notes()]
        assert [note["n_name"] for note in notes] == ["CORE", "QEMU"] * 2
        loads = list(elf.iter_segments("PT_LOAD"))
        flat = next(segment for segment in loads if not segment["p_vaddr"] and not segment["p_paddr"])
        assert b"found in the dump" in io.BytesIO(flat.data()).read(0x100000)


def test_what_a_kernel_says_of_itself_is_a_note_of_the_dump(tmp_path):
    """As crash, drgn and makedumpfile look for it; QEMU writes the same one where the guest's driver told it where."""
    text = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\nKERNELOFFSET=0\n"
    code = b"\xf4".ljust(4096, b"\0")  # hlt
    (tmp_path / "kernel").write_bytes(code + pack("<3I", 11, len(text), 0) + b"VMCOREINFO\0\0" + text)
    minivm_("run", tmp_path / "kernel", "--boot", "flat64", "--irqchip", "none", "--dump", tmp_path / "core")
    with (tmp_path / "core").open("rb") as file:
        notes = [note for segment in ELFFile(file).iter_segments("PT_NOTE") for note in segment.iter_notes()]
    assert [(note["n_name"], note["n_type"]) for note in notes] == [("CORE", "NT_PRSTATUS"), ("QEMU", 0), ("VMCOREINFO", 0)]
    assert notes[-1]["n_descdata"] == text


def test_walk_and_symbols_follow_the_kernel_to_where_the_dump_says_it_is(tmp_path):
    text = b"OSRELEASE=6.1.0-test\nSYMBOL(_stext)=ffffffffa9e00000\n"
    (tmp_path / "kernel").write_bytes(b"\xf4".ljust(4096, b"\0") + pack("<3I", 11, len(text), 0) + b"VMCOREINFO\0\0" + text)
    (tmp_path / "map").write_text("ffffffff81000000 T _stext\nffffffff81000123 T helper\n")
    minivm_("run", tmp_path / "kernel", "--boot", "flat64", "--irqchip", "none", "--dump", tmp_path / "core")
    words = ["walk", tmp_path / "core", "helper", "--symbols", tmp_path / "map", "--format", "json"]
    assert json.loads(minivm_(*words, status=1).stdout)[0]["linear"] == 0xFFFFFFFFA9E00123
    listed = minivm_("symbols", tmp_path / "map", "--core", tmp_path / "core").stdout.splitlines()
    assert listed == ["ffffffffa9e00000 T _stext", "ffffffffa9e00123 T helper"], "the file for gdb has them there, too"


def test_a_trace_and_a_profile_name_functions_where_the_kernel_says_it_is(tmp_path):
    text = b"OSRELEASE=6.1.0-test\nSYMBOL(_stext)=100000\n"
    out = b"\xe6\x80\xf4"  # out %al, $0x80; hlt: flat code is loaded at 1 MiB
    (tmp_path / "kernel").write_bytes(out.ljust(4096, b"\0") + pack("<3I", 11, len(text), 0) + b"VMCOREINFO\0\0" + text)
    (tmp_path / "map").write_text("ffffffff81000000 T _stext\n")
    words = ["--boot", "flat64", "--irqchip", "none", "--trace", tmp_path / "trace", "--profile", "--symbols", tmp_path / "map"]
    profile = json.loads(minivm_("run", tmp_path / "kernel", *words, "--format", "json").stderr.splitlines()[-1])["profile"]
    rows = json.loads(minivm_("exits", tmp_path / "trace", "--symbols", tmp_path / "map", "--format", "json").stdout)["profile"]
    assert {(row["what"], row["function"]) for row in rows} == {("out 0x80", "_stext"), ("", "_stext")}
    assert [(row["what"], row["function"]) for row in rows] == [(row["what"], row["function"]) for row in profile]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_opens_the_dump_and_shows_where_the_guest_ended(core):
    words = ["gdb", "-q", "-nx", "-batch", str(GUEST), str(core), "-ex", "bt", "-ex", "print ticks > 0", "-ex", "info threads"]
    out = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False).stdout
    assert re.search(r"#1 +power_off \(status=status@entry=0\)", out), out
    assert "$1 = 1" in out and "LWP 2" in out


def test_walks_through_a_dump_agree_with_the_guests_tables(core):
    found = json.loads(minivm_("walk", core, "0x200123", "--format", "json").stdout)[0]
    assert (found["physical"], found["page_size"], "ring 3" in found["rights"]) == (0x200123, 2 << 20, True)
    done = minivm_("walk", core, "main", "0x7fffff000000", "--symbols", GUEST, status=1)
    assert re.search(r"PD +\[0\] .* page +at 0x0 .*PS", done.stdout) and "page fault: the PML4 entry" in done.stdout


@pytest.mark.parametrize(("words", "status", "text"), [
    (["exits", "/nonexistent"], 125, "/nonexistent: No such file"), (["exits", HELLO16], 125, "not a trace"),
    (["walk", HELLO16, "0"], 125, "no core file"), (["walk", "/nonexistent", "0"], 125, "cannot read dump"),
    (["symbols", HELLO16], 125, "no symbols in"),
    (["symbols", "/etc/passwd"], 125, "System.map: line 1 is not `ADDRESS TYPE NAME`"),
    (["symbols", "-o", "/nonexistent/x"], 125, "cannot write"),
    (["run", "--dump", "/nonexistent/x"], 125, "cannot write dump"), (["run", "--step", "-1"], 2, "how many"),
    (["run", "--profile", "--symbols", "/nonexistent"], 125, "cannot read symbols"),
])  # fmt: skip
def test_mistakes_get_one_line(words, status, text):
    done = minivm_(*words, status=status)
    assert text in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("minivm: "), done.stderr


@pytest.mark.parametrize("line", ['{"x": 1}', "5", '{"call"', '{"call": 5}'])
def test_a_trace_with_a_line_that_is_no_event_is_said_so(tmp_path, line):
    file = tmp_path / "t.jsonl"
    file.write_text('{"trace": 1, "kind": "machine"}\n' + line + "\n")
    done = minivm_("exits", file, status=125)
    assert "line 2 is no event" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_word_that_is_no_address_is_a_mistake_in_the_words(core):
    assert "is no address, and without --symbols no name" in minivm_("walk", core, "main", status=2).stderr
    assert "and no symbol of the kernel" in minivm_("walk", core, "nobody", "--symbols", GUEST, status=2).stderr
    assert "processors" in minivm_("walk", core, "0", "--cpu", "9", status=2).stderr


def test_symbols_are_those_of_nm(tmp_path):
    """Of the file, and of what is written for gdb from it."""
    ours = minivm_("symbols").stdout.splitlines()
    nm = subprocess.run(["nm", str(GUEST)], capture_output=True, text=True, check=True).stdout.splitlines()
    strip = {(line.split()[0], line.split()[2]) for line in nm if line.split()[1] not in "Aa"}
    assert {(line.split()[0], line.split()[2]) for line in ours} == strip
    minivm_("symbols", "-o", tmp_path / "s.elf")
    again = subprocess.run(["nm", str(tmp_path / "s.elf")], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {(line.split()[0], line.split()[2]) for line in again} == strip


def test_exits_of_stepped_instructions_are_counted_once():
    done = minivm_("run", HELLO16, "--boot", "flat16", "--step", 100, "--stats", "--format", "json")
    counts = {row["what"]: row["count"] for row in json.loads(done.stderr.splitlines()[-1])["exits"]}
    assert counts == {"out 0x3f8": 30, "out 0x501": 1}
