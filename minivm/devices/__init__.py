"""The devices of a machine, one a file, each with a picture of its registers.

May import: minivm.errors, and below virtio/ the data path in C (minivm.kvm._kvm) and guest memory; a
device is given what it needs (a way to raise its interrupt, to send bytes, to stop the machine) and makes no ioctl. Read first:
debug_exit.py (the smallest), then uart.py.

A device on the I/O bus has `ports`, the port numbers that it answers to, and two methods, called by the vCPU's
thread with an offset from the first port:

    read(offset, size) -> value
    write(offset, size, value)

A device in memory (virtio/mmio.py) has no `ports`: the machine gives it a page, and calls the same two.
"""
