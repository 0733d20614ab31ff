"""The initramfs that --rootfs makes: modules in order, the script, the root."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.boot import cpio, initramfs
from minivm.boot.modules import Modules, find_directory
from minivm.errors import BootError


def module(name: str, needs: tuple[str, ...] = ()) -> bytes:
    """What of a module's file is read: the strings of its section .modinfo."""
    return b"\x7fELF...\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=" + name.encode() + b"\0rest"


def make_modules(root, needs: dict[str, tuple[str, ...]], builtin: tuple[str, ...] = ()):
    folder = root / "kernel" / "drivers"
    folder.mkdir(parents=True)
    for name, names in needs.items():
        (folder / f"{name}.ko").write_bytes(module(name, names))
    (root / "modules.builtin").write_text("".join(f"kernel/fs/{name}.ko\n" for name in builtin))
    return Modules(str(root))


def test_a_module_comes_after_all_that_it_needs(tmp_path):
    modules = make_modules(tmp_path, {"a-b": ("c", "d"), "c": ("d",), "d": (), "e": ()}, builtin=("ext4",))
    assert list(modules.closure(["a_b", "ext4", "e", "d"])) == ["d", "c", "a_b", "e"]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda edge: edge[0] > edge[1])), st.data())
def test_any_order_can_be_loaded(tmp_path_factory, edges, data):
    needs = {f"m{n}": tuple(f"m{b}" for a, b in edges if a == n) for n in range(8)}
    modules = make_modules(tmp_path_factory.mktemp("modules"), needs)
    wanted = data.draw(st.lists(st.sampled_from(sorted(needs))))
    order = list(modules.closure(wanted))
    assert set(wanted) <= set(order) and len(order) == len(set(order))
    assert all(order.index(need) < order.index(name) for name in order for need in needs[name])


@pytest.mark.parametrize(
    ("soft", "order"),
    [
        (b"pre: crypto-crc32c", ["crc32c_generic", "fs"]),
        (b"pre: lz4-c nosuch post: late", ["lz4_c", "fs"]),
        (b"post: late", ["fs"]),
        (b"pre: fs", ["fs"]),
        (b"pre: late\0softdep=pre: lz4_c", ["late", "lz4_c", "fs"]),
    ],
)
def test_what_a_module_wants_before_it_comes_before_it_where_it_is_there(tmp_path, soft, order):
    """Without crc32c an ext4 of Debian's ordinary kernel does not mount: "Cannot load crc32c driver"."""
    modules = make_modules(tmp_path, {"fs": (), "crc32c_generic": (), "lz4-c": (), "late": ()})
    (tmp_path / "kernel" / "drivers" / "fs.ko").write_bytes(module("fs") + b"\0softdep=" + soft + b"\0")
    assert list(modules.closure(["fs"])) == order


def test_compressed_modules_come_out_as_they_went_in(tmp_path):
    folder = tmp_path / "kernel"
    folder.mkdir()
    (folder / "one.ko.gz").write_bytes(gzip.compress(module("one", ("two",))))
    (folder / "two.ko.xz").write_bytes(lzma.compress(module("two"), check=lzma.CHECK_CRC32))
    (folder / "three.ko.xz").write_bytes(b"\xfd7zXZ\0 rubbish")
    assert Modules(str(tmp_path)).closure(["one"]) == {"two": module("two"), "one": module("one", ("two",))}
    with pytest.raises(BootError, match="damaged"):
        Modules(str(tmp_path)).closure(["three"])


def test_zstd_modules_too(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "kernel").mkdir()
    whole = module("one") + bytes(300_000)
    compressor = zstandard.ZstdCompressor().compressobj()  # a stream, as the program writes it: no size in its header
    (tmp_path / "kernel" / "one.ko.zst").write_bytes(compressor.compress(whole) + compressor.flush())
    assert Modules(str(tmp_path)).closure(["one"])["one"] == whole


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(BootError, match="has no module 'ghost'"):
        make_modules(tmp_path, {"a": ()}).closure(["ghost"])
    with pytest.raises(BootError, match="no kernel modules"):
        Modules(str(tmp_path / "nowhere"))
    circle = make_modules(tmp_path / "circle", {"a": ("b",), "b": ("a",)})
    with pytest.raises(BootError, match="circle: a b a"):
        circle.closure(["a"])
    with pytest.raises(BootError, match=r"9\.9-none"):
        find_directory("/boot/vmlinuz", "9.9-none")


def test_modules_are_found_beside_a_kernel_that_was_unpacked_anywhere(tmp_path):
    (tmp_path / "boot").mkdir()
    make_modules(tmp_path / "usr/lib/modules/6.1", {"a": ()})
    assert find_directory(str(tmp_path / "boot/vmlinuz-6.1"), "6.1") == str(tmp_path / "usr/lib/modules/6.1")


@pytest.mark.parametrize("image", ["", "ext4"])
@pytest.mark.parametrize("command", ["", "sh -c 'exit 7; $x'", "true"])
@pytest.mark.parametrize("modules", [[], ["one", "two"]])
def test_every_script_is_good_shell(image, command, modules):
    text = initramfs.script(modules, image, bool(modules), command)
    for shell in (["sh"], ["/bin/busybox", "sh"]):
        done = subprocess.run([*shell, "-n"], input=text, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_commands_words_stay_words():
    assert "chroot /.minivm/root sh -c 'echo $HOME; exit 7'\n" in initramfs.script([], "ext4", True, "sh -c 'echo $HOME; exit 7'")
    assert "mount -t ext4 -o ro /dev/vda" in initramfs.script([], "ext4", True, "true")


def test_a_command_that_is_none_is_refused_and_any_bytes_arrive(tmp_path):
    with pytest.raises(BootError, match="No closing quotation"):
        initramfs.script([], "", False, "sh -c 'exit")
    (tmp_path / "busybox").write_bytes(b"box")
    text = initramfs.script([], "", False, os.fsdecode(b"echo \xff\xe4"))
    entries = cpio.read_archive(initramfs.build({}, None, text, busybox=str(tmp_path / "busybox")))
    assert b"echo '\xff\xe4'" in next(bytes(entry.data) for entry in entries if entry.name == ".minivm/init")


def test_a_module_that_is_a_link_out_of_its_directory_is_not_followed(tmp_path):
    """Else a stranger's modules would take any file of the host into the guest."""
    modules = make_modules(tmp_path, {"a": ()})
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "kernel" / "drivers" / "a.ko").unlink()
    (tmp_path / "kernel" / "drivers" / "a.ko").symlink_to(tmp_path / "secret")
    with pytest.raises(BootError, match=r"a\.ko"):
        modules.closure(["a"])


@given(st.binary(max_size=60), st.sampled_from(["", ".gz", ".xz"]))
def test_whatever_a_modules_file_holds_it_is_read_or_refused(tmp_path_factory, data, ending):
    directory = tmp_path_factory.mktemp("modules")
    (directory / "kernel").mkdir()
    (directory / "kernel" / f"m.ko{ending}").write_bytes(data)
    try:
        assert set(Modules(str(directory)).closure(["m"])) == {"m"}
    except BootError as error:
        assert "m" in str(error)


@given(st.binary(max_size=40) | st.just(b"kernel/fs/\xe4.ko\nkernel/fs/ext4.ko\n"))
def test_whatever_the_list_of_what_is_built_in_holds_modules_are_found(tmp_path_factory, text):
    directory = tmp_path_factory.mktemp("modules")
    make_modules(directory, {"a": ()})
    (directory / "modules.builtin").write_bytes(text)
    modules = Modules(str(directory))
    assert list(modules.closure(["a"])) == ["a"]
    assert b"ext4.ko\n" not in text or not modules.closure(["ext4"])


def test_the_archive_holds_root_busybox_modules_and_script(tmp_path):
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "motd").write_text("hello")
    (tmp_path / "busybox").write_bytes(b"box")
    data = initramfs.build({"one": b"1"}, str(tmp_path / "root"), "script", busybox=str(tmp_path / "busybox"))
    found = {entry.name: (oct(entry.mode), bytes(entry.data)) for entry in cpio.read_archive(data)}
    assert found["etc/motd"][1] == b"hello" and found[".minivm/one.ko"] == ("0o100644", b"1")
    assert found[".minivm/busybox"] == ("0o100755", b"box") and found[".minivm/init"] == ("0o100755", b"script")
    with pytest.raises(BootError, match="busybox-static"):
        initramfs.build({}, None, "", busybox=str(tmp_path / "none"))


def test_images_are_known_by_their_magic(tmp_path):
    image = tmp_path / "image"
    for data, kind in ((bytes(0x438) + b"\x53\xef" + bytes(100), "ext4"), (b"hsqs" + bytes(100), "squashfs")):
        image.write_bytes(data)
        assert initramfs.file_system(str(image)) == kind
    image.write_bytes(b"")
    with pytest.raises(BootError, match="neither"):
        initramfs.file_system(str(image))
