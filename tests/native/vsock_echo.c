/* A program of a guest for tests of virtio-vsock (man 7 vsock).
 *
 *   vsock_echo listen PORT     says "listening"; what the first who connects sends goes back, until its end
 *   vsock_echo connect PORT    to the host's port; what the host sends goes back, until its end */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

int main(int argc, char **argv)
{
    int end = socket(AF_VSOCK, SOCK_STREAM, 0), listens = argc == 3 && !strcmp(argv[1], "listen");
    struct sockaddr_vm at = {.svm_family = AF_VSOCK, .svm_port = argc == 3 ? atoi(argv[2]) : 0};
    static char bytes[1 << 16];
    ssize_t count;

    at.svm_cid = listens ? VMADDR_CID_ANY : VMADDR_CID_HOST;
    if (listens) {
        if (bind(end, (void *)&at, sizeof at) < 0 || listen(end, 1) < 0)
            return perror("listen"), 1;
        puts("listening");
        fflush(stdout);
        end = accept(end, NULL, NULL);
    } else if (connect(end, (void *)&at, sizeof at) < 0) {
        return perror("connect"), 1;
    }
    while ((count = read(end, bytes, sizeof bytes)) > 0)
        for (ssize_t done = 0, result; done < count; done += result)
            if ((result = write(end, bytes + done, count - done)) < 0)
                return perror("write"), 1;
    return count < 0 ? perror("read"), 1 : 0;
}
