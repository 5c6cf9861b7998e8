/* The random numbers of a simulation follow from its seed: those of `rand`, of hash tables and of tokio. The time of day
 * follows from the number of calls. Rust's library and `getrandom` call these functions instead of libc's. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int64_t microseconds;
    if (clock != CLOCK_REALTIME) {
        return (int)syscall(SYS_clock_gettime, clock, now);
    }
    microseconds += 1;
    now->tv_sec = 1800000000 + microseconds / 1000000;
    now->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}

static uint64_t state;
static int is_seeded;

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    if (!is_seeded) {
        const char *seed = getenv("LANDFALL_SIMULATION_SEED");
        state = seed ? strtoull(seed, NULL, 10) : 0;
        is_seeded = 1;
    }
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at++) {
        /* SplitMix64. */
        state += 0x9e3779b97f4a7c15u;
        uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        bytes[at] = (unsigned char)(z ^ (z >> 31));
    }
    return (ssize_t)length;
}
