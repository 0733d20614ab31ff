"""--rootfs: the initramfs for a root, and what the kernel's command line must say for it."""

from __future__ import annotations

import os

from minivm.boot import agent, bzimage, initramfs
from minivm.boot.modules import Modules, find_directory
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes
    from minivm.machine.config import Config, Rootfs

__all__ = ["make"]

BUTTON = ("button", "evdev")  # so that a press of the power button reaches whoever reads /dev/input


def make(config: Config, kernel: str, image: Bytes) -> tuple[bytes, str]:
    """Return the initramfs and the command line.

    Args:
        config: with its rootfs.
        kernel: path of the kernel's file.
        image: its bytes.

    Raises BootError.
    """
    rootfs = config.rootfs
    assert rootfs is not None
    tree = rootfs.path if os.path.isdir(rootfs.path) else None
    kind = "" if tree else initramfs.file_system(rootfs.path)
    modules = _modules(config, rootfs, kernel, image, kind)
    shares = [share.tag for share in config.shares if share.tag.startswith("/")]
    if rootfs.program:
        ours = agent.build(modules, tree, agent.settings(rootfs.program, kind, rootfs.read_only, modules, shares))
    else:
        ours = initramfs.build(modules, tree, initramfs.script(modules, kind, rootfs.read_only, rootfs.command, shares))
    words = [config.cmdline, f"rdinit={agent.INIT if rootfs.program else initramfs.INIT}"]
    if "console=" not in config.cmdline:
        words.append("console=hvc0" if config.hvc else "console=ttyS0")
    if config.hotplug and "memhp_default_state=" not in config.cmdline:
        words.append("memhp_default_state=online_movable")  # else somebody in the guest would have to switch it on
    if "panic=" not in config.cmdline:
        words.append("panic=-1")  # reset at once: the machine ends, rather than wait for somebody to read
    return ours, " ".join(word for word in words if word)


def _modules(config: Config, rootfs: Rootfs, kernel: str, image: Bytes, kind: str) -> dict[str, bytes]:
    """Return the modules for this machine's devices and the root's file system; none where it has neither."""
    names = ["virtio_mmio"] if config.virtio() else []
    names += sorted({device.module for device in config.virtio()})
    names += [kind] if kind else []
    names += ["wdat_wdt"] if config.watchdog else []
    if not names:
        return {}
    directory = rootfs.modules
    if not directory:
        directory = find_directory(kernel, _release(kernel, image))
    found = Modules(directory)
    return found.closure(names + [name for name in BUTTON if found.has(name)])


def _release(kernel: str, image: Bytes) -> str:
    """Return what a kernel calls itself: a bzImage says so, a vmlinux by its file's name. Raises BootError."""
    if bzimage.is_bzimage(image):
        return bzimage.kernel_release(image)
    name = os.path.basename(kernel)
    if not name.startswith("vmlinux-"):
        raise BootError("which modules belong to it? Name their directory with --modules")
    return name.removeprefix("vmlinux-")
