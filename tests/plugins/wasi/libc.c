// A guest that leans on its libc. The action is the first word of the request; what it does goes to stdout and stderr.
// Built with: zig cc -target wasm32-wasi -mexec-model=reactor -O2 -s -Wl,-z,stack-size=65536 -o libc.wasm libc.c

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(name)))

static const char answer[] = "{\"success\":true,\"result\":1,\"error\":null}";

EXPORT("allocate") void *allocate(int length) { return malloc(length ? length : 1); }

static void say(void) {
    printf("one line\nand a ");
    printf("second, and the rest: %d", 42);
    fflush(stdout);  // a libc keeps an unfinished line to itself
    fprintf(stderr, "to stderr\n");
}

static void clocks(void) {
    struct timespec wall, before, after;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &before);
    usleep(20 * 1000);
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long slept = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    printf("%lld %lld\n", (long long)wall.tv_sec, slept);
}

static void chance(void) {
    unsigned char bytes[16];
    getentropy(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        printf("%02x", bytes[i]);
    printf(" %d\n", rand() != rand());
}

static void surroundings(void) {
    const char *language = getenv("LANGUAGE"), *home = getenv("HOME");
    printf("%s %s\n", language ? language : "none", home ? home : "none");
    printf("%s\n", fopen("/etc/passwd", "r") ? "opened" : "no files");
    printf("%d\n", getchar());
}

static void ready(void) {
    struct pollfd both[] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLOUT}};
    printf("%d\n", poll(both, 2, 1000));
}

EXPORT("handle_request") long long handle_request(const char *request, int length) {
    (void)length;
    switch (request[0]) {
    case 's': say(); break;
    case 'c': clocks(); break;
    case 'r': chance(); break;
    case 'e': surroundings(); break;
    case 'p': ready(); break;
    case 'x': printf("last words"); exit(3);
    default: abort();
    }
    return (long long)(size_t)answer << 32 | (sizeof answer - 1);
}
