"""virtio: devices made for virtual machines, by the VIRTIO 1.2 specification.

A device is three layers, a file each: mmio.py (registers in memory: what the device is, which features are agreed on,
where its queues lie), queue.py (a virtqueue: how buffers of the guest get here and back), and the device itself, which
knows its buffers and its configuration. What moves bytes is in C, with the GIL released (csrc/kvm/virtio.h): a path.py
is a thread there that serves queues, and comes back to Python for what must be decided.

May import: the standard library, minivm.kvm's C module and guest memory, and other files here. Read first: queue.py, then
rng.py (all in Python), mmio.py, path.py, blk.py, net.py, console.py; loop.py and vsock.py (a thread in Python);
vhost_user.py and fs.py (another process); legacy.py (the registers that old drivers know).
"""
