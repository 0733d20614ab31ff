"""config.json to a plan: what the OCI runtime specification asks for, as system calls.

May import minirt.plan, minirt.linux and minirt.errors; nothing heavy. Read in this order:

    compile.py      the steps in their order: the table of contents of a container's birth
    namespaces.py   signals, cgroup, clone3, id maps, session
    rootfs.py       propagation, overlay, what is bound from the host, pivot_root
    mounts.py       /proc, /dev, /sys and the rest; what is hidden and what is read-only
    devices.py      device nodes, links, the terminal
    system.py       host name, sysctls, the loopback interface
    process.py      limits, user, capabilities, seccomp, execve
    lookup.py       in the finished root: who is this user, where is this command
    spec.py         the default config.json
"""
