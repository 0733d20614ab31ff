"""The lab: a disposable Linux machine with cgroup v2 and /dev/kvm, for hosts without them.

It is a QEMU virtual machine that boots in seconds, runs one command (or a shell) in a copy of
the repository, hands back output and exit status, and is gone. Nothing on the host changes.

The room imports the standard library only, and nothing of minirt or minivm: it must run before
anything is built. Read README.md, then in this order:

    run, __main__.py            the words; doctor.py: what this host lacks
    session.py                  one run: the machine started, its streams joined to ours
    faults.py                   what the emulator does wrong, and how the console tells of it
    machine.py                  QEMU's command line
    payload.py                  what a run brings along; cpio.py: as an archive
    init, session.sh            the machine's first scripts; keys.py: what keeps its kernel from patching itself
    image.py, build-image       make the disk and the kernel, once; extract_vmlinux.py: out of Debian's bzImage
"""
