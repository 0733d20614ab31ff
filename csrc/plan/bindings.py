"""cffi's API mode binding of the parent's side: spawn.c, and the kernel's constants from its own headers.

Builds `minirt.linux._sys`. A constant is listed in constants.txt under the header that defines it, and gets its
value from there when this is compiled; Python finds it in `minirt.linux.constants`. The library has a second door, for who
cannot wait for cffi: direct.c.
"""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("csrc/plan").resolve()

cdef = ["""
    long plan_syscall(long nr, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);
    void plan_clock(uint64_t *nanoseconds, uint64_t *ticks);
    int plan_spawn(int exe, const int *fds, int n, int plan);
    int plan_receive(int socket, void *buffer, int size, int *fd);
    int plan_send_fds(int socket, const int *fds, int n);
"""]
includes = ["#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif"]
names = []
newer = []  # constants that an older distribution's headers may lack, with the kernel's fixed value
for line in (HERE / "constants.txt").read_text().splitlines():
    words = line.split("#")[0].split()
    if not words:
        continue
    if words[0].startswith("<"):
        includes.append(f"#include {words[0]}")
    else:
        for word in words:
            name, _, value = word.partition("=")
            names.append(name)
            cdef.append(f"#define {name} ...")
            if value:
                newer.append(f"#ifndef {name}\n#define {name} {value}\n#endif")

table = [f'{{"{name}", (long long)({name})}},' for name in sorted(names)]  # as bsearch(3) wants it
direct = [
    "static const struct direct_constant { const char *name; long long value; } direct_constants[] = {", *table, "};",
    '#include "direct.c"',
]  # fmt: skip

ffi = FFI()
ffi.cdef("\n".join(cdef))
ffi.set_source(
    "minirt.linux._sys",
    "\n".join([*includes, *newer, '#include "spawn.c"', *direct]),
    include_dirs=[str(HERE)],
    depends=[str(HERE / name) for name in ("spawn.c", "direct.c", "plan.h", "constants.txt")],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=implicit"],
    py_limited_api=True,
)
