/* A path: a thread that waits for the driver's notifications and the host's descriptors, and serves queues.
 *
 *   driver writes QueueNotify -> KVM adds to an eventfd (ioeventfd), no exit -> epoll_wait -> serve -> used ring
 *   -> InterruptStatus in the page of registers -> eventfd -> KVM raises the interrupt (irqfd)
 *
 * Interrupts are edges. A level would have to be lowered again by whoever sees the last bit of InterruptStatus
 * acknowledged, an exit at a time; an edge needs no end. No interrupt is lost: the bit is set before the edge, and an
 * edge that comes while the driver's handler runs is kept by the local APIC (its IRR) and runs the handler again. A
 * driver reads InterruptStatus, acknowledges what it read, and then looks at its queues: what we use before it looks it
 * finds, what we use later comes with an edge of its own, whose bit no earlier acknowledgement clears but one whose
 * handler has yet to look.
 *
 * The lock is held while queues are touched. Python takes it to take a queue away: after that nothing of it is used. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "virtio.h"

#define INTERRUPT_STATUS 0x60 /* of the registers (VIRTIO 1.2, 4.2.2) */
#define ALWAYS 0xff8         /* not of the specification: bits of InterruptStatus that stay set */
#define USED_BUFFER 1
#define WAKE 63 /* the source that means: look at the flags */
#define EVENTS 16

/* Prepare what all paths have. The device has set serve, and destroys the path also after an error. Returns 0 or -errno. */
int path_begin(struct path *path, uint8_t *registers, int interrupt)
{
    path->registers = registers;
    path->interrupt = interrupt;
    path->wake = path->epoll = -1;
    pthread_mutex_init(&path->lock, NULL);
    path->epoll = epoll_create1(EPOLL_CLOEXEC);
    path->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (path->epoll < 0 || path->wake < 0)
        return -errno;
    return path_watch(path, WAKE, path->wake, EPOLLIN);
}

/* Free a path; no thread may be in path_run. */
void path_destroy(struct path *path)
{
    if (path->destroy)
        path->destroy(path);
    if (path->epoll >= 0)
        close(path->epoll);
    if (path->wake >= 0)
        close(path->wake);
    pthread_mutex_destroy(&path->lock);
    free(path);
}

/* Serve `source` when the descriptor is ready; edge-triggered, so whoever serves goes on until EAGAIN, and an eventfd
 * need not be read. Returns 0 or -errno (-EPERM: a file, which is always ready). man 7 epoll. */
int path_watch(struct path *path, uint32_t source, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.u64 = source};

    return epoll_ctl(path->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Serve a queue when its eventfd is written to. Returns 0 or -errno. */
int path_kick(struct path *path, uint32_t number, int fd)
{
    return number < PATH_QUEUES ? path_watch(path, number, fd, EPOLLIN) : -EINVAL;
}

static void wake(struct path *path)
{
    if (eventfd_write(path->wake, 1) < 0)
        return; /* full: it is awake */
}

/* Give the path a queue, or with NULL take it away; then nothing uses the old one any more. */
void path_give(struct path *path, uint32_t number, struct queue *queue)
{
    if (number >= PATH_QUEUES)
        return;
    __atomic_fetch_add(&path->waiting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&path->lock);
    __atomic_fetch_sub(&path->waiting, 1, __ATOMIC_SEQ_CST);
    if (path->queues[number] && path->forget)
        path->forget(path, number);
    path->queues[number] = queue;
    path->again |= queue ? 1ULL << number : 0; /* the driver may have filled it before we could hear of it */
    pthread_mutex_unlock(&path->lock);
    wake(path);
}

/* Have a source served; from any thread. */
void path_poke(struct path *path, uint32_t source)
{
    pthread_mutex_lock(&path->lock);
    path->again |= 1ULL << (source & 63);
    pthread_mutex_unlock(&path->lock);
    wake(path);
}

/* Between two buffers: let others have the lock, and return the queue if it is still ours to use, else NULL. */
struct queue *path_next(struct path *path, uint32_t number)
{
    if (__atomic_load_n(&path->waiting, __ATOMIC_SEQ_CST)) {
        pthread_mutex_unlock(&path->lock);
        while (__atomic_load_n(&path->waiting, __ATOMIC_SEQ_CST))
            sched_yield();
        pthread_mutex_lock(&path->lock);
    }
    return __atomic_load_n(&path->stopping, __ATOMIC_SEQ_CST) ? NULL : path->queues[number];
}

/* Set bits of InterruptStatus and raise the interrupt. */
void registers_interrupt(uint8_t *registers, int fd, uint32_t bits)
{
    __atomic_fetch_or((uint32_t *)(registers + INTERRUPT_STATUS), bits, __ATOMIC_SEQ_CST);
    if (fd >= 0 && eventfd_write(fd, 1) < 0)
        return; /* full: an edge is pending */
}

/* Clear bits of InterruptStatus: the driver has seen to them. */
void registers_acknowledge(uint8_t *registers, uint32_t bits)
{
    uint32_t always = __atomic_load_n((uint32_t *)(registers + ALWAYS), __ATOMIC_SEQ_CST);

    __atomic_fetch_and((uint32_t *)(registers + INTERRUPT_STATUS), ~bits | always, __ATOMIC_SEQ_CST);
}

/* Have it say for ever that there are used buffers: another process raises the interrupts, and cannot reach this page. A
 * driver that looks at its queues in vain loses nothing. */
void registers_always(uint8_t *registers)
{
    __atomic_store_n((uint32_t *)(registers + ALWAYS), USED_BUFFER, __ATOMIC_SEQ_CST);
    __atomic_fetch_or((uint32_t *)(registers + INTERRUPT_STATUS), USED_BUFFER, __ATOMIC_SEQ_CST);
}

/* Interrupt the driver, where it wants to hear of what the queue has given back. */
void path_tell(struct path *path, struct queue *queue)
{
    if (queue_wants_interrupt(queue)) {
        path->interrupts++;
        registers_interrupt(path->registers, path->interrupt, USED_BUFFER);
    }
}

void path_again(struct path *path, uint32_t source)
{
    path->again |= 1ULL << source;
}

/* Return CLOCK_MONOTONIC in ns. */
uint64_t path_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Serve a source again after so many ns. */
void path_later(struct path *path, uint32_t source, uint64_t ns)
{
    uint64_t when = path_now() + ns;

    if (!path->later || when < path->deadline)
        path->deadline = when;
    path->later |= 1ULL << source;
}

/* Return how many ms epoll_wait may sleep; and what was put off is to be served now if its time has come. */
static int sleep_ms(struct path *path)
{
    uint64_t now = path->later ? path_now() : 0;

    if (path->later && now >= path->deadline) {
        path->again |= path->later;
        path->later = 0;
    }
    if (path->again)
        return 0;
    if (!path->later)
        return -1;
    return (path->deadline - now) / 1000000 + 1;
}

/* Serve one source. Returns 0 or -EPROTO. */
static int serve(struct path *path, uint32_t source)
{
    if (source == WAKE || (source < PATH_QUEUES && !path->queues[source]))
        return 0;
    return path->serve(path, source);
}

/* Serve all that is ready. Returns 0 or -EPROTO. */
static int serve_all(struct path *path, uint64_t ready)
{
    while (ready) {
        int source = __builtin_ctzll(ready), result;

        ready &= ready - 1;
        result = serve(path, source);
        if (result < 0) {
            path->again |= ready; /* the others are not to suffer for it */
            return result;
        }
    }
    return 0;
}

/* Serve until Python is needed. Returns 0 after path_stop, 1 where path_looked says which sources want Python, -EPROTO
 * where the driver broke a rule (the queue's `why`), or another -errno. One thread at a time. */
int path_run(struct path *path)
{
    struct epoll_event events[EVENTS];
    int result = 0;

    while (!__atomic_load_n(&path->stopping, __ATOMIC_SEQ_CST)) {
        uint64_t ready, look;
        int count;

        pthread_mutex_lock(&path->lock);
        count = sleep_ms(path);
        pthread_mutex_unlock(&path->lock);
        count = epoll_wait(path->epoll, events, EVENTS, count);
        if (count < 0 && errno != EINTR)
            return -errno;
        pthread_mutex_lock(&path->lock);
        path->wakes++;
        ready = path->again;
        path->again = 0;
        for (int i = 0; i < count; i++)
            ready |= 1ULL << events[i].data.u64;
        result = serve_all(path, ready);
        result = path->broken ? path->broken : result;
        path->broken = 0;
        look = path->look;
        pthread_mutex_unlock(&path->lock);
        if (result < 0 || look)
            return result < 0 ? result : 1;
    }
    return 0;
}

/* Serve a queue at once, as the thread of whoever calls; what only Python or the path's own thread can do is left to that. */
void path_prompt(struct path *path, uint32_t source)
{
    int result;

    __atomic_fetch_add(&path->waiting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&path->lock);
    __atomic_fetch_sub(&path->waiting, 1, __ATOMIC_SEQ_CST);
    result = serve(path, source);
    if (result < 0)
        path->broken = result;
    result = result < 0 || path->again || path->later || path->look;
    pthread_mutex_unlock(&path->lock);
    if (result)
        wake(path);
}

/* Return the sources that want Python, one bit each, and forget them. */
uint64_t path_looked(struct path *path)
{
    return __atomic_exchange_n(&path->look, 0, __ATOMIC_SEQ_CST);
}

/* Make path_run return 0, now or at its next call; from any thread. */
void path_stop(struct path *path)
{
    __atomic_store_n(&path->stopping, 1, __ATOMIC_SEQ_CST);
    wake(path);
}
