"""What can go wrong, and the exit status that each becomes.

    MinivmError          125  minivm or the host could not do it (as docker's 125)
    ├── UsageError         2  the words on the command line make no sense
    ├── BootError        125  the kernel image is not one that can be started
    ├── DocumentError      1  a machine file that is wrong: names the path in it (manager/document.py)
    ├── MachineError       1  a named machine is not there, or not in the state that is needed (manager/machines.py)
    │   ├── NoMachine      1  ... as no machine has its name
    │   └── Busy           1  ... as its process lives
    └── KvmError         125  a call into the host kernel failed: names the call, arguments and usual cause
"""

__all__ = ["BootError", "KvmError", "MinivmError", "UsageError"]


class MinivmError(Exception):
    """Something that ends the command with one line on stderr."""

    status = 125


class UsageError(MinivmError):
    """The command line is wrong."""

    status = 2


class BootError(MinivmError):
    """The kernel image cannot be read, is damaged, or does not fit the machine."""


# What usually causes an errno, for (call, errno) or for the errno alone.
CAUSES: dict[tuple[str, str] | str, str] = {
    ("open", "ENOENT"): "this host offers no KVM: load kvm_intel or kvm_amd, turn on VT-x or AMD-V in the firmware, "
    "or in a virtual machine nested virtualisation; lab/run offers a machine that has it",
    ("open", "EACCES"): "only root and the group `kvm` may use it: sudo adduser $USER kvm, then log in again",
    ("open", "EPERM"): "the sandbox or container that this runs in does not pass /dev/kvm through",
    ("open", "ENODEV"): "the module is there but the processor's virtualisation is off or in use",
    ("KVM_CREATE_VM", "EBUSY"): "another hypervisor (VirtualBox, VMware) holds the processor's virtualisation",
    ("KVM_CREATE_VM", "ENOMEM"): "the host is short of memory, or of its limit on locked memory",
    ("mmap", "ENOMEM"): "less memory is free than asked for, or `ulimit -v` is lower: ask for less with --memory",
    ("KVM_SET_USER_MEMORY_REGION", "EEXIST"): "the range overlaps another slot",
    ("KVM_CREATE_IRQCHIP", "EEXIST"): "the machine has one already, or a vCPU was created before it",
    ("KVM_CREATE_VCPU", "EEXIST"): "the machine has a vCPU of that number already",
    ("KVM_RUN", "EFAULT"): "the guest touched memory that no memory slot backs",
    ("KVM_SET_SREGS", "EINVAL"): "the control registers contradict each other (for example EFER.LMA without CR0.PG)",
    "EBADF": "the file descriptor is closed, or not of the kind that this call needs",
    "ENOTTY": "the file descriptor is not of the kind that this ioctl needs, or this kernel lacks the ioctl",
    "EMFILE": "too many open files: see `ulimit -n`",
    "EINVAL": "this kernel does not take these arguments",
}


class KvmError(MinivmError):
    """A call into the kernel failed.

    Args:
        call: the system call or ioctl, by its kernel name.
        errno: why, as a positive number.
        shown: its arguments, decoded, as one string.
        cause: what caused it, where that is known; else what usually does.
    """

    def __init__(self, call: str, errno: int, shown: str = "", cause: str = "") -> None:
        import errno as names
        import os

        self.call, self.errno = call, errno
        self.name = names.errorcode.get(errno, str(errno))
        cause = cause or CAUSES.get((call, self.name)) or CAUSES.get(self.name, "")
        text = f"{call}({shown}): {self.name} ({os.strerror(errno)})"
        super().__init__(f"{text}: {cause}" if cause else text)
