/* Those who are attached to a container: see clients.c. */
#ifndef MINIRT_CLIENTS_H
#define MINIRT_CLIENTS_H

#include <poll.h>
#include <stddef.h>

#include "monitor.h"

#define CLIENTS 32
#define CLIENTS_FDS (1 + CLIENTS)
#define ROOM (4 * FRAME_MOST)

/* Bytes on their way to a descriptor. */
struct queue { size_t used; char data[ROOM]; };

/* Write what the descriptor takes. Returns -1 where nobody reads there any more. */
int queue_flush(struct queue *q, int fd);

/* Clients come by this socket, which is kept; -1: none come any more, and one that was there is closed. */
void clients_listen(int fd);
/* Put a frame on its way to every client that wants it; there is room if clients_have_room. */
void clients_tell(int type, const char *data, size_t size);
int clients_have_room(void);
/* Return how many bytes are still on their way to them. */
size_t clients_left(void);
/* Fill in what is waited for: at most CLIENTS_FDS. Args: room, whether a frame may come in. Returns how many. */
int clients_poll(struct pollfd *fds, int room);
/* Let in all who wait: one who came before the program began is to miss nothing of what it writes. Args: fds, as filled in. */
void clients_welcome(const struct pollfd *fds);
/* Do what can be done. Args: fds, n, as they were filled in; heard, called for each whole frame that has come: it says whether there
 * is room for another. */
void clients_serve(const struct pollfd *fds, int n, int (*heard)(int type, const char *data, size_t size));
/* Hang up on all; or full: on those who have no room. */
void clients_leave(int full);

#endif
