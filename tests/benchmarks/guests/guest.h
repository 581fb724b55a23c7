/* The guests of `make bench-sandbox`: each is one function, `answer`, linked with the ABI of the host that runs it. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *at;
    size_t len;
} bytes;

/* The answer to a request; both live until the next request. */
bytes answer(bytes request);

/* Memory that is taken piece by piece, and given back all at once when the next request comes: that way an instance
 * that is used again serves for ever. Traps when there is no more. */
void *arena_take(size_t len);
void arena_reset(void);

#endif
