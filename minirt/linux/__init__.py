"""One file a kernel interface: thin, typed, with errors that name the call and its arguments.

May import minirt.errors and, for events, minirt.plan.events; nothing else of minirt. In reading order:

    direct.py        any system call, and the executor's start, in C without cffi
    constants.py     the kernel's constants, from its headers
    files.py         opening a path inside another root (openat2)
    mounts.py        what the parent does with mounts for a child: id-mapped copies
    userns.py        id maps
    capabilities.py  the sets, their names and numbers
    cgroup2.py       control groups: limits, events, the end of all processes in one
    cgroup_*.py      what belongs to it: where in the tree, which limits, changes, freezing, statistics
    device_filter.py which devices the processes of a group may use: rules compiled to eBPF
    systemd.py       on a machine that systemd runs, groups are its to make: asked for over dbus.py, as systemd_*.py say
    criu.py          a service that saves processes and brings them back
    seccomp/         a profile compiled to BPF
"""
