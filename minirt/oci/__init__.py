"""config.json to a plan: what the OCI runtime specification asks for, as system calls.

May import minirt.plan, minirt.linux and minirt.errors; nothing heavy. Read in this order:

    compile.py      the steps in their order: the table of contents of a container's birth
    begin.py        those of the executor, with which it begins
    step.py         what a step is written with
    namespaces.py   signals, cgroup, clone3, id maps, session
    rootfs.py       propagation, overlay, pivot_root
    options.py      an entry of config.json's mounts, read
    sources.py      what is bound from the host
    targets.py      paths in the container, followed so that none leads out; checks.py: is a file what it should be
    mounts.py       /proc, /dev, /sys and the rest
    devices.py      device nodes, links, the terminal
    procfs.py       files of /proc that are written to, and nothing else
    system.py       host name, sysctls, network interfaces
    hidden.py       what is hidden and what is read-only
    parent.py       what the parent does meanwhile
    process.py      limits, user, capabilities, seccomp, execve; scheduling.py: what few ask for
    lookup.py       in the finished root: who is this user, where is this command
    join.py         a second process in a container that runs (exec); joined.py goes on
    spec.py         the default config.json
    features.py     what config.json may ask for, as a document for engines

Before all that, config.json is checked:

    schema.py       every field of it, as data; in the words of shapes.py
    validate.py     what they mean to each other; validate_namespaces.py, and validate_rare.py for what few containers have
"""

VERSION = "1.3.0"  # of runtime-spec
