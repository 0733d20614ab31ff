/* What the parent (birth_parent.c) and the child (birth_child.c) share, in a memfd that both map. */
#ifndef BENCH_BIRTH_CHILD_H
#define BENCH_BIRTH_CHILD_H

#include <stdint.h>

#define SHARED_BASE 0x10000000ULL
#define SHARED_SPAN 0x04000000ULL

struct shared {
    int32_t pid;            /* of the container, as the helper got it from clone3 */
    uint32_t used;          /* results stored so far */
    char options[1024];     /* overlay's mount options */
    char target[256];       /* the directory that becomes the root */
    uint32_t kcore;         /* whether this kernel has /proc/kcore (CONFIG_PROC_KCORE) */
    int64_t results[929];   /* what came of each call, for a person who looks for a failure */
};

#endif
