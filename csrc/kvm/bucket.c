/* Rate limits: a bucket of tokens that fills evenly.
 *
 *   tokens(now) = min(size, tokens(last) + (now - last) * size / refill)
 *
 * Whoever spends may go into debt with one buffer, whose size is known only once it is taken, and then waits until the
 * debt is paid: so the mean rate is size / refill exactly, and a burst is at most `size` and one buffer. */
#include "virtio.h"

/* Set a limit; a size of 0 is none. It starts full. */
void bucket_set(struct bucket *bucket, uint64_t size, uint64_t refill)
{
    *bucket = (struct bucket){.size = size, .refill = refill ? refill : 1, .tokens = size, .last = path_now()};
}

/* Return 0 where something may be spent now, else how many ns to wait. */
uint64_t bucket_wait(struct bucket *bucket, uint64_t now)
{
    __uint128_t gained;

    if (!bucket->size)
        return 0;
    gained = (__uint128_t)(now - bucket->last) * bucket->size / bucket->refill;
    if (gained) {
        bucket->tokens = gained >= bucket->size - bucket->tokens ? (int64_t)bucket->size : bucket->tokens + (int64_t)gained;
        bucket->last = now;
    }
    if (bucket->tokens > 0)
        return 0;
    return (__uint128_t)(1 - bucket->tokens) * bucket->refill / bucket->size + 1;
}

void bucket_spend(struct bucket *bucket, uint64_t tokens)
{
    if (bucket->size)
        bucket->tokens -= tokens;
}
