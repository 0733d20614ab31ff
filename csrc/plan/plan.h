/* The plan as memory: what minirt/plan/lower.py writes and csrc/plan/executor.c runs.
 *
 * One file (a memfd, or a file in a container's state directory), mapped shared at PLAN_BASE, so that every
 * pointer in it is a plain number and what happened can be read from outside while it happens:
 *
 *     PLAN_BASE    +---------------------------+
 *                  | struct outcome [capacity] |  the ring: what came of it, filled in by the executor; mostly a hole
 *     PLAN_HEADER  | struct plan               |
 *                  | pool                      |  what records point to that many plans have in common (minirt/plan/common.py)
 *                  | struct record [count]     |  what to do
 *                  | arena                     |  strings, structures, slots that results are stored in
 *                  +---------------------------+
 *                  | struct record [count]     |  the same and those that were written while these ran (minirt/plan/lower.py):
 *                  | arena                     |  `records` and `count` are changed while a record waits for that
 *                  +---------------------------+
 */
#ifndef MINIRT_PLAN_H
#define MINIRT_PLAN_H

#include <stdint.h>

#define PLAN_BASE 0x10000000ULL     /* far from the executor's own 0x400000 */
#define PLAN_HEADER 0x10100000ULL
#define PLAN_SPAN 0x04000000ULL     /* 64 MiB of addresses; pages beyond the end of the file are never touched */
#define PLAN_MAGIC 0x31306e616c70ULL /* "plan01" */
#define PLAN_CHECK 0xffff0000U      /* not a system call: compare memory under a mask */
#define PLAN_PENDING INT64_MIN      /* the call has begun and has not returned (an execve that worked never does) */
#define PLAN_ERRNOS 4
#define PLAN_TRIES 1000             /* of an openat2 that says EAGAIN: see executor.c */
#define PLAN_END 0xffff             /* where to go on: nowhere, this process has done its part */

enum { LOAD_NONE = 0, LOAD_S32 = 1 };  /* two bits for each argument: is it a number, or the address of one of 32 bits? */

struct plan {
    uint64_t magic;
    uint64_t records;       /* address of the first */
    uint32_t count;         /* records */
    uint32_t used;          /* outcomes begun; taken atomically, as two processes write after clone3 */
    uint64_t ring;          /* address of the first outcome */
    uint32_t capacity;      /* outcomes; at least 2 x count, as nothing jumps backward and at most two processes run */
    uint32_t reserved;
};

/* One system call. */
struct record {
    uint32_t nr;            /* system call number, or PLAN_CHECK */
    uint16_t loads;         /* LOAD_* for argument i at bits 2i */
    uint16_t positive;      /* where to go on if the result is > 0 (the parent's side of clone3); 0: next */
    uint64_t args[6];       /* a number, or the address to load it from */
    uint64_t store;         /* address that the result is stored at, 4 bytes; 0: nowhere */
    int32_t at_least;       /* a smaller result is a failure: read() = 0 means that the other side died */
    uint16_t reserved;
    uint16_t inject;        /* do not call: pretend this errno (--fail) */
    struct { uint16_t errnum, go; } on_error[PLAN_ERRNOS];  /* tolerated, and where to go on; 0: next */
};

/* What came of one record. Written with no system call: after seccomp a write may not be ours to make. */
struct outcome {
    uint32_t record;
    uint32_t reserved;
    int64_t result;         /* as the kernel gives it: -errno for failure; PLAN_PENDING */
    uint64_t began, ended;  /* time stamp counter */
};

#endif
