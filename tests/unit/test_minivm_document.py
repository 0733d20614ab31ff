"""The machine file: what is right passes, what is wrong is named by its path, and settings survive the way there and back."""

from __future__ import annotations

import copy
import datetime
import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.errors import MinivmError, UsageError
from minivm.machine.config import Config, Disk, Program, Rootfs, parse_affinity
from minivm.machine.devices import Net, Vsock
from minivm.manager.document import DocumentError, check, read
from minivm.manager.settings import SAYS, absolute, config_of, document_of

WHOLE = {
    "boot-source": {"kernel_image_path": "/boot/vmlinuz", "initrd_path": "/boot/initrd", "boot_args": "quiet"},
    "drives": [
        {"drive_id": "data", "path_on_host": "/data.img", "is_read_only": True, "cache_type": "Unsafe", "io_engine": "Sync"},
        {"drive_id": "root", "path_on_host": "/root.img", "is_root_device": True, "partuuid": None, "rate_limiter": None},
    ],
    "network-interfaces": [],
    "balloon": None,
    "machine-config": {"vcpu_count": 2, "mem_size_mib": 256, "smt": False, "cpu_template": "None", "track_dirty_pages": False},
    "entropy": {"rate_limiter": None},
    "minivm": {"console": "virtio", "init": "sh -c 'true'", "cpu_affinity": ["0", "1-2"], "modules": ["/m words"]},
}


def test_a_whole_document_is_right_and_means_what_it_says():
    config = config_of(check(WHOLE))
    assert (config.kernel, config.cmdline, config.initrd, config.cpus, config.memory) == (
        "/boot/vmlinuz", "quiet", ["/boot/initrd"], 2, 256 << 20)  # fmt: skip
    assert [(disk.path, disk.read_only) for disk in config.disks] == [("/root.img", False), ("/data.img", True)], "the root first"
    assert (config.rng, config.hvc, config.affinity) == (True, True, [{0}, {1, 2}])
    assert config.rootfs and (config.rootfs.path, config.rootfs.command) == ("/root.img", "sh -c 'true'")


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (("machine-config", "vcpu_count"), 0, "machine-config.vcpu_count: 0 is not between 1 and 254"),
        (("machine-config", "vcpu_count"), True, "machine-config.vcpu_count: must be a whole number, not true or false"),
        (("machine-config", "vcpu_count"), None, "machine-config.vcpu_count: is missing"),
        (("machine-config", "mem_size_mib"), "256", "machine-config.mem_size_mib: must be a whole number, not a string"),
        (("machine-config", "vcpus"), 1, "machine-config.vcpus: no such field; 'vcpu_count' is meant?"),
        (("machine-config", "smt"), True, "machine-config.smt: true is not implemented"),
        (("machine-config",), [], "machine-config: must be an object, not a list"),
        (("drives",), {}, "drives: must be a list, not an object"),
        (("drives", 0, "path_on_host"), None, "drives[0].path_on_host: is missing"),
        (("drives", 1, "drive_id"), "data", "drives[1].drive_id: drives[0] is 'data' too"),
        (("drives", 0, "is_root_device"), True, "drives[1].is_root_device: drives[0] is the root already"),
        (("drives", 0, "rate_limiter"), {"ops": {}}, "drives[0].rate_limiter.ops.size: is missing"),
        (("drives", 1, "minivm"), {"queues": 17}, "drives[1].minivm.queues: 17 is not between 1 and 16"),
        (("minivm", "program"), {"args": []}, "minivm.program.args: must name a program"),
        (("vsock",), {"guest_cid": 2, "uds_path": "/v"}, "vsock.guest_cid: 2 is not between 3 and 4294967294"),
        (("minivm", "ports"), [{"name": "a"}], "minivm.ports[0].path: is missing"),
        (("balloon",), {"amount_mib": 3, "deflate_on_oom": False}, "balloon.deflate_on_oom: false is not implemented"),
        (("balloon",), {}, "balloon.amount_mib: is missing"),
        (("minivm", "shares"), [{"path": "/a"}], "minivm.shares[0].tag: is missing"),
        (("cpu-config",), {"a": 1}, "cpu-config: not implemented"),
        (("drives", 0, "io_engine"), "Fast", 'drives[0].io_engine: must be one of Sync, Async, not "Fast"'),
        (("drives", 0, "path_on_host"), "a\0b", "drives[0].path_on_host: must not have a zero byte in it"),
        (("minivm", "cpu_affinity", 1), 7, "minivm.cpu_affinity[1]: must be a string, not a whole number"),
        (("network-interfaces",), [{"iface_id": "eth0", "mtu": {}}], "network-interfaces[0].mtu: not implemented"),
        (("drives", 0, "path_on_host"), "a\ud800", 'drives[0].path_on_host: "a\\ud800" is no text'),
        (("network-interfaces",), [{"iface_id": "e", "guest_mac": "53:54:0:1:2:3"}],
         "network-interfaces[0].guest_mac: must be six bytes, the first of them even: 52:54:00:12:34:56"),
        (("network-interfaces",), [{"iface_id": "e", "host_dev_name": "t" * 16}],
         "network-interfaces[0].host_dev_name: must be the name of a tap: at most 15 bytes, and no /"),
        (("vsock",), {"guest_cid": 3, "uds_path": "/" + "v" * 96},
         "vsock.uds_path: with _PORT behind it, must not be longer than the 107 bytes that a socket's name may have"),
        (("minivm", "ports"), [{"name": "a", "path": "/" + "p" * 107}],
         "minivm.ports[0].path: must have 1 to 107 bytes: it is a socket's name"),
        (("minivm", "ports"), [{"name": "a/b", "path": "/p"}], "minivm.ports[0].name: must be a name without a /"),
        (("minivm", "ports"), [{"name": f"{n}", "path": f"/{n}"} for n in range(7)],
         "minivm.ports: 7 ports are too many; 6 is the most"),
        (("minivm", "ports"), [{"name": "a", "path": "/p"}, {"name": "a", "path": "/q"}],
         "minivm.ports[1].name: minivm.ports[0] is 'a' too"),
        (("minivm", "shares"), [{"path": "/a", "tag": "t"}, {"path": "/b", "tag": "t"}],
         "minivm.shares[1].tag: minivm.shares[0] is 't' too"),
        (("minivm", "shares"), [{"path": "/a", "tag": "t" * 37}], "minivm.shares[0].tag: must have 1 to 36 bytes, and no comma"),
        (("minivm", "plugged_mib"), 2, "minivm.plugged_mib: needs memory-hotplug"),
        (("minivm", "cpu_affinity"), ["0", "1", "2"], "minivm.cpu_affinity: must have one list, or one for each of 2 processors"),
        (("minivm", "irqchip"), "none",
         "minivm.irqchip: must be kernel for 2 processors: they start each other through their local APICs"),
        (("minivm", "virtio"), "old", 'minivm.virtio: must be one of modern, legacy, not "old"'),
        (("memory-hotplug",), {"total_size_mib": 3}, "memory-hotplug.total_size_mib: must be a multiple of 2"),
        (("balloon",), {"amount_mib": 257}, "balloon.amount_mib: must not be more than machine-config.mem_size_mib"),
        (("drives", 1, "is_root_device"), False,
         "minivm.init: needs a root: a drive that is_root_device, or minivm.root_directory"),
        (("drives",), [{"drive_id": f"{n}", "path_on_host": "/d", "is_root_device": n == 0} for n in range(17)],
         "drives: with them there are 19 virtio devices; 17 have an interrupt"),
        (("minivm", "init"), "sh -c 'true", "minivm.init: is no command: No closing quotation"),
        (("minivm", "cpu_affinity", 1), "2-1", "minivm.cpu_affinity[1]: processors '2-1': 2-1 names none that a host may have"),
        (("minivm", "format"), datetime.date(1979, 5, 27), 'minivm.format: must be one of '
         'auto, elf64, flat16, flat32, flat64, bzimage, pvh, multiboot, not "1979-05-27"'),
        (("boot-source", "boot_args"), datetime.time(7, 32), "boot-source.boot_args: must be a string, not a date or time"),
        (("drives", 0, "partuuid"), "x", 'drives[0].partuuid: "x" is not implemented'),
        (("machine",), {}, "machine: no such section; 'machine-config' is meant?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_path(place, value, text):
    document = copy.deepcopy(WHOLE)
    *above, last = place
    inside = document
    for step in above:
        inside = inside[step]
    inside[last] = value
    with pytest.raises(DocumentError) as caught:
        check(document)
    assert str(caught.value) == text


def test_no_machine_is_larger_than_its_host_and_none_interrupts_without_a_controller():
    plain = {"machine-config": {"vcpu_count": 1, "mem_size_mib": 1 << 40}}
    with pytest.raises(DocumentError, match=r"^machine-config.mem_size_mib: \d+ is more than this host has"):
        check(plain)
    plain["machine-config"]["mem_size_mib"] = 64
    assert check(plain | {"minivm": {"irqchip": "none"}})
    for more in ({"entropy": {}}, {"balloon": {"amount_mib": 0}}, {"vsock": {"guest_cid": 3, "uds_path": "/v"}}):
        with pytest.raises(DocumentError, match=f"^minivm.irqchip: must be kernel for {next(iter(more))}"):
            check(plain | more | {"minivm": {"irqchip": "none"}})


def test_what_old_drivers_do_not_know_is_not_for_them():
    plain = {"machine-config": {"vcpu_count": 1, "mem_size_mib": 64}, "minivm": {"virtio": "legacy"}}
    known = {"entropy": {}, "balloon": {"amount_mib": 0}, "network-interfaces": [{"iface_id": "e"}]}
    assert config_of(check(plain | known)).legacy and not config_of(check(known | plain | {"minivm": {}})).legacy
    assert document_of(config_of(check(plain | known)))["minivm"]["virtio"] == "legacy"
    share = {"minivm": {"virtio": "legacy", "shares": [{"path": "/a", "tag": "t"}]}}
    for name, more in (("vsock", {"vsock": {"guest_cid": 3, "uds_path": "/v"}}), ("memory-hotplug", {"memory-hotplug": {
        "total_size_mib": 2}}), ("minivm.shares", share)):  # fmt: skip
        with pytest.raises(DocumentError, match=f"^minivm.virtio: must be modern for {name}: that device has no legacy interface"):
            check(plain | more)


def test_a_file_is_json_or_by_its_name_toml(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(WHOLE))
    assert read(str(tmp_path / "a.json")) == WHOLE
    text = '[machine-config]\nvcpu_count = 1\nmem_size_mib = 64\n[[drives]]\ndrive_id = "x"\npath_on_host = "y"'
    (tmp_path / "a.toml").write_text(text)
    assert read(str(tmp_path / "a.toml"))["drives"] == [{"drive_id": "x", "path_on_host": "y"}]
    for name, text in (("b.json", '{"a": 1, "a": 2}'), ("c.toml", "= ="), ("d.json", "[" * 100_000), ("e.json", "[]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DocumentError):
            read(str(tmp_path / name))


def test_relative_paths_begin_where_the_file_is(tmp_path):
    (tmp_path / "vmlinux").touch()
    source = {"kernel_image_path": "vmlinux", "initrd_path": "../initrd"}
    drives = [{"drive_id": "x", "path_on_host": "/abs"}]
    made = absolute({"boot-source": source, "drives": drives, "minivm": {"root_directory": "r"}}, str(tmp_path))
    assert made["boot-source"] == {"kernel_image_path": f"{tmp_path}/vmlinux", "initrd_path": f"{tmp_path.parent}/initrd"}
    assert made["drives"] == drives and made["minivm"]["root_directory"] == f"{tmp_path}/r"
    words = absolute({"minivm": {"modules": ["m url=http://host/../a b", "/n"]}}, str(tmp_path))
    assert words["minivm"]["modules"] == [f"{tmp_path}/m url=http://host/../a b", "/n"], "words are no path"
    (tmp_path / "debian").mkdir()  # as a Debian source package has
    named = {"boot-source": {"kernel_image_path": "debian"}}
    assert absolute(named, str(tmp_path)) == named


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
PLACES = [(), ("boot-source",), ("drives",), ("drives", 0), ("machine-config",), ("minivm",), ("entropy",)]


@given(st.sampled_from(PLACES), st.data())
@settings(deadline=None)
def test_anything_anywhere_is_right_or_a_document_error(place, data):
    document = copy.deepcopy(WHOLE)
    inside = document
    for step in place:
        inside = inside[step]
    keys = range(len(inside)) if isinstance(inside, list) else sorted(inside)
    inside[data.draw(st.sampled_from(list(keys)))] = data.draw(JSON)
    try:
        made = check(document)
    except DocumentError as error:
        assert "\n" not in str(error)
        return
    config_of(made)


def settings_of(config: Config) -> dict[str, object]:
    plain = {name: getattr(config, name) for name in Config.__slots__}
    plain["disks"] = [[getattr(disk, name) for name in Disk.__slots__] for disk in config.disks]
    plain["nets"] = [[getattr(net, name) for name in Net.__slots__] for net in config.nets]
    plain["vsock"] = config.vsock and (config.vsock.path, config.vsock.cid)
    root = config.rootfs
    program = root and root.program and {name: getattr(root.program, name) for name in Program.__slots__}
    if program:
        program |= {name: list(program[name]) for name in ("args", "env")}
    plain["rootfs"] = root and (root.path, root.command, root.modules, root.read_only, program)
    lists = {name for name, value in plain.items() if isinstance(value, tuple)} - {"rootfs", "vsock"}
    return {name: list(value) if name in lists else value for name, value in plain.items()}


PATHS = st.from_regex(r"/[a-z]{1,8}", fullmatch=True)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
COMMANDS = st.lists(WORDS, max_size=3).map(shlex.join)

NAMES = st.just("") | st.from_regex(r"[a-z0-9]{1,15}", fullmatch=True)
MACS = st.just("") | st.just("52:54:00:12:34:56")
RATES = st.just(0) | st.integers(1, 1 << 40)


def draw_disk(draw, path: str) -> Disk:
    more = {"overlay": draw(st.none() | st.just("") | PATHS), "form": draw(st.sampled_from(["raw", "qcow2"]))}
    more["base"] = draw(st.just("") | PATHS)
    return Disk(path, draw(st.booleans()), draw(st.integers(1, 16)), rate=draw(RATES), requests=draw(RATES), **more)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_config_survives_as_a_document(data):
    draw = data.draw
    disks = [draw_disk(draw, path) for path in draw(st.lists(PATHS, max_size=3, unique=True))]
    nets = tuple(
        Net(draw(NAMES), mac=draw(MACS), incoming=draw(RATES), outgoing=draw(RATES)) for _ in range(draw(st.integers(0, 2)))
    )
    rootfs = None
    if disks:
        more = {"command": draw(COMMANDS), "modules": draw(st.just("") | PATHS), "read_only": disks[0].read_only}
        words = draw(st.lists(WORDS, max_size=3))
        program = Program(["x", *words], env=words, cwd=draw(PATHS), user=draw(WORDS), hostname="h", terminal=draw(st.booleans()))
        rootfs = Rootfs(disks[0].path, program=draw(st.sampled_from([None, program])), **more)
    cpus, cards = draw(st.integers(1, 254)), bool(disks or nets)
    chips = [None, True] if cpus > 1 or cards else [None, True, False]
    lists = draw(st.lists(st.sets(st.integers(0, 9), min_size=1), max_size=1)) * draw(st.sampled_from([1, cpus]))
    more = {} if False in chips else {
        "rng": draw(st.booleans()), "hvc": draw(st.booleans()),
        "ports": draw(st.lists(st.tuples(NAMES.filter(bool), PATHS), max_size=2, unique_by=lambda port: port[0])),
        "vsock": draw(st.none() | st.builds(Vsock, PATHS, st.integers(3, 99))),
    }  # fmt: skip
    config = Config(
        draw(st.none() | PATHS), boot=draw(st.sampled_from(["auto", "pvh", "bzimage"])), memory=draw(st.integers(1, 64)) << 20,
        cmdline=draw(WORDS), irqchip=draw(st.sampled_from(chips)), initrd=draw(st.lists(PATHS, max_size=2)),
        modules=draw(st.lists(PATHS, max_size=2)), cpus=cpus, disks=disks, rootfs=rootfs, affinity=lists,
        cgroup=draw(st.just("") | PATHS), nets=nets, jail=draw(st.booleans()), **more,
    )  # fmt: skip
    document = json.loads(json.dumps(document_of(config)))
    assert settings_of(config_of(check(document))) == settings_of(config)


def test_a_setting_that_no_document_can_say_is_refused_not_lost(monkeypatch):
    monkeypatch.setattr("minivm.manager.settings.SAYS", SAYS - {"rng"})
    with pytest.raises(MinivmError, match="rng: not implemented"):
        document_of(Config(rng=True))


@given(st.sets(st.integers(0, 40), min_size=1))
@settings(deadline=None)
def test_a_list_of_processors_is_read_as_taskset_writes_it(cpus):
    numbers = sorted(cpus)
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    assert parse_affinity(",".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges)) == cpus


@pytest.mark.parametrize("text", ["", ",", "1,", "-1", "2-1", "a", "1-", "0-99999", "1--2", "٣"])
def test_another_text_is_no_list_of_processors(text):
    with pytest.raises(UsageError, match="processors"):
        parse_affinity(text)
