"""virtio: devices made for virtual machines, by the VIRTIO 1.2 specification.

A device is three layers, a file each: mmio.py (registers in memory: what the device is, which features are agreed on,
where its queues lie), queue.py (a virtqueue: how buffers of the guest get here and back), and the device itself
(rng.py, blk.py, console.py), which knows only its buffers and its configuration.

May import: the standard library and other files here. Read first: queue.py, then rng.py, mmio.py, blk.py, console.py.
"""
