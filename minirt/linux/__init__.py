"""One file a kernel interface: thin, typed, with errors that name the call and its arguments.

May import minirt.errors and minirt.trace, which is told what was called; nothing else of minirt. In reading order:

    direct.py        any system call, and the executor's start, in C without cffi
    constants.py     the kernel's constants, from its headers
    files.py         opening a path inside another root (openat2)
    copytree.py      a directory copied by descriptor; rmtree.py: one removed, as deep as it may be
    mounts.py        what the parent does with mounts for a child: id-mapped copies; mountinfo.py: what is mounted
    process.py       when a process began, which with its pid names it
    userns.py        id maps; fsid.py: files made as another user
    cpulist.py       lists of processors and memory nodes
    capabilities.py  the sets, their names and numbers
    seccomp/         a profile compiled to BPF
    rtnetlink.py     network interfaces: moved into a network namespace, given addresses and routes

Control groups:

    cgroup2.py       limits, events, the end of all processes in one: what other rooms ask for
    cgroup_tree.py   where a container's group is, and how its directories come to be; cgroup_owner.py: whose they are
    cgroup_group.py  one group: its processes, its end; cgroup_files.py: one of its files, written
    cgroup_limits.py from config.json to its files; cgroup_update.py: changed while the container lives
    cgroup_freeze.py held still; cgroup_events.py: waited for; cgroup_stats.py: what it used
    device_filter.py which devices its processes may use, compiled to eBPF; cgroup_bpf.py: loaded

Other programs that are asked for what the kernel has no call for:

    systemd.py       where systemd runs, groups are its to make: systemd_unit.py, systemd_limits.py; over dbus.py, dbus_values.py
    criu.py          saves processes and brings them back
"""
