"""The fields of config.json by the JSON schema of runtime-spec 1.3.0, one after the other, each with what shows it.

Taken from the specification's schema/config-schema.json, config-linux.json, defs.json and defs-linux.json, in their order,
and not from minirt/oci/schema.py: the test compares the two. A line is: fields, with what they have in common before them;
what is done; what shows it.

    done     the container has it
    ignored  with a warning, as the specification lets a runtime do, or as there is no such thing in cgroup v2
    refused  in one line with its path, before anything is made
    =NAME    the configuration of that name, in which the differential test looks at it with a probe (configurations.py)
    file.py::test    a test of ours
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ENUMERATIONS", "FIELDS", "OTHER_PLATFORMS", "Field"]

FEATURES = "system/test_oci_features.py"
MOUNTS, DEVICES, CGROUP = "system/test_oci_mounts.py", "system/test_oci_devices.py", "unit/test_cgroup2.py"
LEFT_OUT = f"{CGROUP}::test_what_runc_leaves_out_is_left_out_with_a_warning_where_one_can_be_given"

TABLE = f"""
ociVersion                                      done     {FEATURES}::test_each_version_that_is_claimed_is_accepted_and_the_next_major_one_is_not
hooks.prestart[] path args env timeout          done     =hooks
hooks.createRuntime[] path args env timeout     done     =hooks
hooks.createContainer[] path args env timeout   done     =hooks
hooks.startContainer[] path args env timeout    done     =hooks
hooks.poststart[] path args env timeout         done     =hooks
hooks.poststop[] path args env timeout          done     =hooks
annotations                                     done     =annotations
hostname                                        done     =names
domainname                                      done     =names
mounts[] source destination options type        done     =mount-bind-recursive-attributes
mounts[].uidMappings[] containerID hostID size  done     =mount-id-mapped
mounts[].gidMappings[] containerID hostID size  done     =mount-id-mapped
root path readonly                              done     =root-read-only
process args env cwd                            done     =environment
process.consoleSize height width                done     =terminal-of-a-size
process terminal                                done     =terminal
process.user uid gid umask additionalGids       done     =user-and-groups
process.capabilities bounding permitted effective inheritable ambient   done   =capabilities-different-in-each-set
process apparmorProfile                         refused  =labels
process selinuxLabel                            refused  =label-of-selinux
process oomScoreAdj                             done     =oom-score
process.ioPriority class priority               done     =io-priority-be
process noNewPrivileges                         done     =no-new-privileges
process.scheduler policy nice                   done     =scheduler-batch
process.scheduler priority flags                done     =scheduler-rr
process.scheduler runtime deadline period       done     =scheduler-deadline-1
process.rlimits[] type soft hard                done     =rlimits-of-all-kinds
process.execCPUAffinity initial final           done     =affinity-of-exec
linux.devices[] type path fileMode major minor uid gid   done   =devices
linux.netDevices{{}} name                       done     =network-device
linux.uidMappings[] containerID hostID size     done     =user-namespace-of-two-ranges
linux.gidMappings[] containerID hostID size     done     =user-namespace-of-two-ranges
linux.namespaces[] type path                    done     =join-network
linux.resources unified                         done     =unified-1
linux.resources.devices[] allow type major minor access   done   =device-rules
linux.resources.pids limit                      done     =pids-1
linux.resources.blockIO weight                  done     =block-io-3
linux.resources.blockIO leafWeight              ignored  {LEFT_OUT}
linux.resources.blockIO.throttleReadBpsDevice[] major minor rate     done   =block-io-1
linux.resources.blockIO.throttleWriteBpsDevice[] major minor rate    done   =block-io-1
linux.resources.blockIO.throttleReadIOPSDevice[] major minor rate    done   =block-io-1
linux.resources.blockIO.throttleWriteIOPSDevice[] major minor rate   done   =block-io-1
linux.resources.blockIO.weightDevice[] major minor weight            done   {CGROUP}::test_weights_are_said_to_bfq_and_translated_for_others
linux.resources.blockIO.weightDevice[] leafWeight                    ignored   {LEFT_OUT}
linux.resources.cpu cpus mems period quota burst shares   done   =cpu-1
linux.resources.cpu realtimePeriod realtimeRuntime        refused   =cpu-realtime-1
linux.resources.cpu idle                        done     =cpu-3
linux.resources.hugepageLimits[] pageSize limit   done   =huge-pages-1
linux.resources.memory limit reservation swap   done     =memory-1
linux.resources.memory kernel kernelTCP swappiness disableOOMKiller   ignored   {LEFT_OUT}
linux.resources.memory useHierarchy checkBeforeUpdate     done   =memory-1
linux.resources.network classID                 ignored  {LEFT_OUT}
linux.resources.network.priorities[] name priority   ignored   {LEFT_OUT}
linux.resources.rdma{{}} hcaHandles hcaObjects  done     {CGROUP}::test_rdma_is_a_line_a_device_and_kind
linux cgroupsPath                               done     =cgroup-path-1
linux rootfsPropagation                         done     =root-slave
linux.seccomp defaultAction architectures       done     =seccomp-other-architectures
linux.seccomp defaultErrnoRet                   done     =seccomp-default-error
linux.seccomp flags                             done     =seccomp-operators
linux.seccomp listenerPath listenerMetadata     done     {DEVICES}::test_an_agent_gets_the_listener_and_answers
linux.seccomp.syscalls[] names action errnoRet  done     =seccomp-errors
linux.seccomp.syscalls[].args[] index value valueTwo op   done   =seccomp-operators
linux sysctl                                    done     =kernel-settings
linux maskedPaths readonlyPaths                 done     =masked-and-read-only-paths
linux mountLabel                                done     {MOUNTS}::test_a_mount_label_is_ignored_where_there_is_no_selinux
linux.intelRdt closID l3CacheSchema memBwSchema   refused   =cache-allocation
linux.intelRdt schemata enableMonitoring        refused  =cache-monitoring
linux.memoryPolicy mode nodes flags             done     =memory-policy-bind
linux.personality domain flags                  done     =personality-32
linux.timeOffsets{{}} secs nanosecs             done     =time-namespace
"""  # noqa: E501

OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")

ENUMERATIONS = {
    "process.ioPriority.class": ("IOPRIO_CLASS_", "RT BE IDLE"),
    "process.scheduler.policy": ("SCHED_", "OTHER FIFO RR BATCH ISO IDLE DEADLINE"),
    "process.scheduler.flags[]": (
        "SCHED_FLAG_", "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX"),
    "linux.devices[].type": ("", "c b u p"),
    "linux.namespaces[].type": ("", "mount pid network uts ipc user cgroup time"),
    "linux.memoryPolicy.mode": ("MPOL_", "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL"),
    "linux.memoryPolicy.flags[]": ("MPOL_F_", "NUMA_BALANCING RELATIVE_NODES STATIC_NODES"),
    "linux.personality.domain": ("", "LINUX LINUX32"),
    "linux.seccomp.architectures[]": (
        "SCMP_ARCH_", "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
        "PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64"),
    "linux.seccomp.defaultAction": ("SCMP_ACT_", "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY"),
    "linux.seccomp.flags[]": ("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV"),
    "linux.seccomp.syscalls[].args[].op": ("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ"),
}  # fmt: skip


class Field(NamedTuple):
    """One field: its path, what is done with it, what shows that."""

    path: str
    done: str
    shown: str


def read(table: str) -> list[Field]:
    """Return the fields of a table."""
    fields = []
    for line in table.strip().splitlines():
        first, *names, done, shown = line.split()
        fields += [Field(f"{first}.{name}", done, shown) for name in names] or [Field(first, done, shown)]
    return fields


FIELDS = read(TABLE)
