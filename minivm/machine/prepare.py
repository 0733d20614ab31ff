"""From a Config to a Start: read the kernel and what goes with it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes, Start
    from minivm.machine.config import Config

__all__ = ["prepare"]


def prepare(config: Config) -> Start:
    """Return how the guest of a machine starts. Raises BootError, which names the file."""
    from minivm.boot import formats
    from minivm.boot.cpio import join
    from minivm.errors import BootError

    path = config.kernel or formats.default_kernel()
    image = formats.read_kernel(path)
    initrd, cmdline = _initrd(config), config.cmdline
    if config.rootfs:
        from minivm.machine.rootfs import make

        ours, cmdline = make(config, path, image)
        initrd = join([ours, initrd])
    modules = [(words, formats.read_kernel(words.partition(" ")[0], "module")) for words in config.modules]
    try:
        return formats.prepare(
            image, config.boot, config.memory, cmdline, initrd=initrd, modules=modules, processors=config.cpus,
            virtio=len(config.virtio()), watchdog=config.watchdog, name=path,
        )  # fmt: skip
    except BootError as error:
        raise BootError(f"kernel {path!r}: {error}") from None


def _initrd(config: Config) -> Bytes:
    """Read the initial RAM file systems and join them."""
    from minivm.boot import formats
    from minivm.boot.cpio import join

    files = [formats.read_kernel(path, "initrd") for path in config.initrd]
    if len(files) <= 1:
        return files[0] if files else b""
    return join(files)
