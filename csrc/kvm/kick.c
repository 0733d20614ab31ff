/* Get a thread out of KVM_RUN: a signal ends the ioctl with EINTR.
 *
 * A signal that comes just before KVM_RUN would be lost, so whoever kicks first sets
 * kvm_run->immediate_exit, which makes the next KVM_RUN return EINTR at once. Both together leave no
 * gap (Documentation/virt/kvm/api.rst, immediate_exit). */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "kvm.h"

static void nothing(int signal)
{
    (void)signal; /* that it was delivered is all that was wanted */
}

/* Install the empty handler of SIGRTMIN, without SA_RESTART so that KVM_RUN is not restarted.
 * Owns that signal for the whole process. Returns 0 or -errno. man 2 sigaction. */
int kick_prepare(void)
{
    struct sigaction action = {.sa_handler = nothing};

    sigemptyset(&action.sa_mask);
    return sigaction(SIGRTMIN, &action, NULL) < 0 ? -errno : 0;
}

/* Send SIGRTMIN to a thread of this process (a pthread_t, as Python's threading.get_ident gives it) that has
 * not been joined. Returns 0 or -errno. man 3 pthread_kill. */
int kick(uintptr_t thread)
{
    return -pthread_kill((pthread_t)thread, SIGRTMIN);
}
