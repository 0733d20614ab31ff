/* What minirt says to the monitor, and the monitor to who is attached (minirt/engine/monitor.py says the same in Python).
 *
 * Orders come over a socket (SOCK_SEQPACKET), one a message, descriptors beside it; each is answered by one 32-bit number,
 * negative an errno. When minirt closes its end before ORDER_GO, the birth has failed, and the monitor ends too.
 */
#ifndef MINIRT_MONITOR_H
#define MINIRT_MONITOR_H

#include <stdint.h>

enum order {
    ORDER_SPAWN = 1,   /* fds: executor, then what it is to have as 0, 1, ...; a: the number among those that is the plan's.
                          Answer: its pid. It and its child (CLONE_PARENT) are the monitor's children. */
    ORDER_REAP = 2,    /* a: the executor's pid. Wait for its end. Answer: 0 */
    ORDER_INPUT = 3,   /* fd: the writing end of the program's standard input; a: 1 if it is closed with its first client's */
    ORDER_OUTPUT = 4,  /* fd: the reading end of its standard output; a: 1, or of its standard error; a: 2 */
    ORDER_TTY = 5,     /* fd: its terminal's master, in place of these three */
    ORDER_PLACE = 6,   /* fd: the container's directory, for `exit` and the log */
    ORDER_LOG = 7,     /* a: bytes in one file (0: any number); b: how many files. Without this order nothing is logged. */
    ORDER_ATTACH = 8,  /* fd: a listening socket (SOCK_STREAM) for clients */
    ORDER_KEEP = 9,    /* fd: kept open until the monitor's end: the lock that says whose the container is */
    ORDER_EXIT = 10,   /* text: the command to run when the program has ended, each word NUL-terminated; with the lock as its
                          descriptor 3 */
    ORDER_CHILD = 11,  /* a: the container's pid; it is killed should minirt be gone before ORDER_GO */
    ORDER_GO = 12,     /* It runs; from here on the monitor is alone with it */
    ORDER_HEALTH = 13, /* a: ms between two checks; b: the same while it starts; text: ms that it may take to start, in digits, then
                          the command that does one check, each word NUL-terminated. Its exit status 0 says: started. */
};

struct order_message {
    uint32_t order, b;
    int64_t a;
    char text[4096];
};

/* Between the monitor and a client, both ways: as in the stream of Docker's Engine API ("attach"). */
struct frame {
    uint8_t type;      /* FRAME_* */
    uint8_t zero[3];
    uint32_t size;     /* of what follows; big-endian */
};

enum frame_type {
    FRAME_INPUT = 0,   /* from a client: to the program's standard input; of size 0: its end */
    FRAME_OUTPUT = 1,  /* to a client */
    FRAME_ERROR = 2,
    FRAME_STATUS = 3,  /* to a client, the last: 32 bits as wait(2) gives them, big-endian */
    FRAME_SIZE = 4,    /* from a client: its terminal's rows and columns, 16 bits each, big-endian */
    FRAME_QUIET = 5,   /* from a client: it wants no output, only the status */
};

#define FRAME_MOST 32768

#endif
