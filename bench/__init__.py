"""Measurements beside the peers, each program in turn on one machine in one run: only the ratios mean something elsewhere.

May import minirt and minivm; nothing imports it but tests. `python -m bench` is birth.py, which the promises of speed rest on;
`python -m bench.NAME` each of the others, which says in its first lines what it compares with what:

    birth.py           one container's birth beside the same system calls from C (birth_child.c, birth_parent.c)
    oci.py             minirt-oci beside runc and crun
    engine.py          detached containers beside podman's; network.py: networks
    build.py           a rebuild beside buildah's; image.py: pull, unpack, push; registry.py: a registry beside docker-registry
    exits.py           minivm's exits a second beside a bare loop in C; minivm_start.py: how soon a guest speaks
    minivm_boot.py     Debian's kernel beside qemu and kvmtool; minivm_devices.py: virtio's devices (both in the lab)
    fresh.py           README and the first lesson, followed on a fresh Debian; no peer

What they have in common is in beside.py.
"""
