"""Build what must be C: two cffi modules (limited API, one wheel for 3.11+) and the freestanding programs.

The programs (csrc/plan, csrc/init, csrc/start, csrc/guest; csrc/agent, which is not freestanding) are not Python extensions:
each has a Makefile of its own that puts one .elf file next to the Python that loads it; those of csrc/start come beside the
interpreter.
"""

import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

# csrc folder -> package folder that its program is loaded from
PROGRAMS = {
    "csrc/plan": "minirt/plan", "csrc/init": "minirt/engine", "csrc/monitor": "minirt/engine",
    "csrc/guest": "minivm/boot", "csrc/agent": "minivm/boot",
}  # fmt: skip


class BuildAnew(build):
    """build, from nothing: what an earlier one left in build/ would go into the wheel though its source is gone."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildAll(build_ext):
    """build_ext, and then `make` in each folder that holds a freestanding program."""

    def run(self) -> None:
        super().run()
        root = Path(__file__).resolve().parent
        target = root if self.inplace or self.editable_mode else Path(self.build_lib).resolve()
        for source, package in PROGRAMS.items():
            out = target / package
            out.mkdir(parents=True, exist_ok=True)
            subprocess.run(["make", "-s", "-C", str(root / source), f"OUT={out}"], check=True)


class BuildStart(Distribution().get_command_class("build_scripts")):  # type: ignore[misc]
    """build_scripts, of a program in C: what starts the OCI runtime, and minivm (csrc/start)."""

    def run(self) -> None:
        out = Path(self.build_dir).resolve()
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(["make", "-s", "-C", str(Path(__file__).resolve().parent / "csrc/start"), f"OUT={out}"], check=True)


setup(
    cffi_modules=["csrc/plan/bindings.py:ffi", "csrc/kvm/bindings.py:ffi"],
    scripts=["csrc/start/start.c"],  # made into minirt-oci and minivm; not entry points: see there
    cmdclass={"build": BuildAnew, "build_ext": BuildAll, "build_scripts": BuildStart},
)
