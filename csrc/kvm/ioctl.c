/* The one ioctl that all of minivm/kvm calls; what each request means is said there. */
#include <errno.h>
#include <sys/ioctl.h>

#include "kvm.h"

/* Returns what the ioctl returns (0 or more), or -errno. man 2 ioctl; the kernel's
 * Documentation/virt/kvm/api.rst says what `argument` is for each request. */
int kvm_ioctl(int fd, unsigned long request, uintptr_t argument)
{
    int result = ioctl(fd, request, argument);

    return result < 0 ? -errno : result;
}
