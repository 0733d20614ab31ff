"""A hypervisor on Linux's /dev/kvm: Python decides, a few hundred lines of C run the loop around KVM_RUN.

The rooms, each folder's first lines saying what it is for; arrows go down only:

    minivm/cli       words on the command line -> one call into machine or manager
    minivm/manager   machines by name, without a daemon: created, started, paused, stopped
    minivm/machine   one machine: the list of ioctls that builds it, its memory, vCPU, bus and console
    minivm/images    a container's image as a machine: its root disk, its program
    minivm/kernels   Linux kernels by name, out of the distribution's packages
    minivm/boot      how a guest starts: flat, ELF, Multiboot, Linux; what it is told
    minivm/devices   one device a file: uart, rtc, debug-exit, virtio
    minivm/inspect   what can be seen from outside: exits, time, page tables, dumps; gdb's server
    minivm/kvm       one function per ioctl, over csrc/kvm

Read minivm/kvm/__init__.py first: it builds and runs a machine by hand in a dozen lines. Then
minivm/machine/plan.py, which is the same as a list that can explain itself.
"""
