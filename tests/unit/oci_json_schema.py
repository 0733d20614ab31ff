"""What the specification's own JSON schema says of config.json's fields for Linux, recorded: a reading that is not ours.

Source: opencontainers/runtime-spec, directory schema: config-schema.json at commit 09fcb39b, config-linux.json at 5d9aa69b,
defs.json at cd39042c, defs-linux.json at fa4b36aa. The schema follows the text at some distance. The part for Linux is from
before cpu.burst, unified, time namespaces and more: LATER. OTHERS are other platforms', or refused as a whole.

One line a field: its path as in oci_fields.py, its type in JSON, and ! where it is in `required`.
"""

from __future__ import annotations

__all__ = ["LATER", "OTHERS", "RECORDED"]

STRINGS = "array\n{}[] string"
HOOK = "array\n{0}[] object\n{0}[].path string !\n{0}[].args array\n{0}[].args[] string\n{0}[].env array\n{0}[].env[] string\n" \
       "{0}[].timeout integer"  # fmt: skip
IDS = "array\n{0}[] object\n{0}[].containerID integer !\n{0}[].hostID integer !\n{0}[].size integer !"
THROTTLE = "array\n{0}[] object\n{0}[].major integer !\n{0}[].minor integer !\n{0}[].rate integer"

TABLE = """
ociVersion string !
hooks object
hooks.prestart HOOK
hooks.createRuntime HOOK
hooks.createContainer HOOK
hooks.startContainer HOOK
hooks.poststart HOOK
hooks.poststop HOOK
annotations object
annotations{} string
hostname string
domainname string
mounts array
mounts[] object
mounts[].source string
mounts[].destination string !
mounts[].options STRINGS
mounts[].type string
root object
root.path string !
root.readonly boolean
process object
process.args STRINGS
process.commandLine string
process.consoleSize object
process.consoleSize.height integer !
process.consoleSize.width integer !
process.cwd string !
process.env STRINGS
process.terminal boolean
process.user object
process.user.uid integer
process.user.gid integer
process.user.umask integer
process.user.additionalGids array
process.user.additionalGids[] integer
process.user.username string
process.capabilities object
process.capabilities.bounding STRINGS
process.capabilities.permitted STRINGS
process.capabilities.effective STRINGS
process.capabilities.inheritable STRINGS
process.capabilities.ambient STRINGS
process.apparmorProfile string
process.oomScoreAdj integer
process.selinuxLabel string
process.ioPriority object
process.ioPriority.class string !
process.ioPriority.priority integer
process.noNewPrivileges boolean
process.scheduler object
process.scheduler.policy string !
process.scheduler.nice integer
process.scheduler.priority integer
process.scheduler.flags STRINGS
process.scheduler.runtime integer
process.scheduler.deadline integer
process.scheduler.period integer
process.rlimits array
process.rlimits[] object
process.rlimits[].hard integer !
process.rlimits[].soft integer !
process.rlimits[].type string !
process.execCPUAffinity object
process.execCPUAffinity.initial string
process.execCPUAffinity.final string
linux object
linux.devices array
linux.devices[] object
linux.devices[].type string !
linux.devices[].path string !
linux.devices[].fileMode integer
linux.devices[].major integer
linux.devices[].minor integer
linux.devices[].uid integer
linux.devices[].gid integer
linux.uidMappings IDS
linux.gidMappings IDS
linux.namespaces array
linux.namespaces[] object
linux.namespaces[].type string !
linux.namespaces[].path string
linux.resources object
linux.resources.devices array
linux.resources.devices[] object
linux.resources.devices[].allow boolean !
linux.resources.devices[].type string
linux.resources.devices[].major integer
linux.resources.devices[].minor integer
linux.resources.devices[].access string
linux.resources.pids object
linux.resources.pids.limit integer !
linux.resources.blockIO object
linux.resources.blockIO.weight integer
linux.resources.blockIO.leafWeight integer
linux.resources.blockIO.throttleReadBpsDevice THROTTLE
linux.resources.blockIO.throttleWriteBpsDevice THROTTLE
linux.resources.blockIO.throttleReadIOPSDevice THROTTLE
linux.resources.blockIO.throttleWriteIOPSDevice THROTTLE
linux.resources.blockIO.weightDevice array
linux.resources.blockIO.weightDevice[] object
linux.resources.blockIO.weightDevice[].major integer !
linux.resources.blockIO.weightDevice[].minor integer !
linux.resources.blockIO.weightDevice[].weight integer
linux.resources.blockIO.weightDevice[].leafWeight integer
linux.resources.cpu object
linux.resources.cpu.cpus string
linux.resources.cpu.mems string
linux.resources.cpu.period integer
linux.resources.cpu.quota integer
linux.resources.cpu.realtimePeriod integer
linux.resources.cpu.realtimeRuntime integer
linux.resources.cpu.shares integer
linux.resources.hugepageLimits array
linux.resources.hugepageLimits[] object
linux.resources.hugepageLimits[].pageSize string !
linux.resources.hugepageLimits[].limit integer !
linux.resources.memory object
linux.resources.memory.kernel integer
linux.resources.memory.kernelTCP integer
linux.resources.memory.limit integer
linux.resources.memory.reservation integer
linux.resources.memory.swap integer
linux.resources.memory.swappiness integer
linux.resources.memory.disableOOMKiller boolean
linux.resources.network object
linux.resources.network.classID integer
linux.resources.network.priorities array
linux.resources.network.priorities[] object
linux.resources.network.priorities[].name string !
linux.resources.network.priorities[].priority integer !
linux.resources.rdma object
linux.resources.rdma{} object
linux.resources.rdma{}.hcaHandles integer
linux.resources.rdma{}.hcaObjects integer
linux.cgroupsPath string
linux.rootfsPropagation string
linux.seccomp object
linux.seccomp.defaultAction string !
linux.seccomp.architectures STRINGS
linux.seccomp.syscalls array
linux.seccomp.syscalls[] object
linux.seccomp.syscalls[].names array !
linux.seccomp.syscalls[].names[] string
linux.seccomp.syscalls[].action string !
linux.seccomp.syscalls[].args array
linux.seccomp.syscalls[].args[] object
linux.seccomp.syscalls[].args[].index integer !
linux.seccomp.syscalls[].args[].value integer !
linux.seccomp.syscalls[].args[].valueTwo integer
linux.seccomp.syscalls[].args[].op string !
linux.sysctl object
linux.sysctl{} string
linux.maskedPaths STRINGS
linux.readonlyPaths STRINGS
linux.mountLabel string
linux.intelRdt object
linux.intelRdt.closID string
linux.intelRdt.l3CacheSchema string
linux.intelRdt.memBwSchema string
"""


def expanded(line: str) -> str:
    """Return a line with what its definition says ($ref), a line a field."""
    path, kind = line.split()[:2]
    definition = {"HOOK": HOOK, "STRINGS": STRINGS, "IDS": IDS, "THROTTLE": THROTTLE}.get(kind)
    return line if definition is None else f"{path} {definition.format(path)}"


RECORDED = {
    words[0]: (words[1], words[2:] == ["!"])
    for line in TABLE.strip().splitlines() for words in map(str.split, expanded(line).splitlines())
}  # fmt: skip
# Windows', and what is refused as a whole.
OTHERS = {"process.commandLine", "process.user.username"} | {path for path in RECORDED if path.startswith("linux.intelRdt")}
# Begins of what came after the recorded files.
LATER = (
    "mounts[].uidMappings", "mounts[].gidMappings", "linux.timeOffsets", "linux.netDevices", "linux.memoryPolicy",
    "linux.personality", "linux.resources.memory.useHierarchy", "linux.resources.memory.checkBeforeUpdate",
    "linux.resources.cpu.burst", "linux.resources.cpu.idle", "linux.resources.unified", "linux.seccomp.defaultErrnoRet",
    "linux.seccomp.flags", "linux.seccomp.listenerPath", "linux.seccomp.listenerMetadata", "linux.seccomp.syscalls[].errnoRet",
)  # fmt: skip
