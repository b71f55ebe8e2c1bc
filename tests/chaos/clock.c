/*
 * A clock that can be set: loaded before the C library (LD_PRELOAD), it adds the number of seconds that is in the file CHAOS_CLOCK to what the
 * kernel says of the time of day, and to no other clock. All processes that have the file see a jump at the same instant.
 *
 * nginx asks for the time in handlers of signals, so that nothing here may take a lock or memory, as libfaketime does.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t nothing = 0;
static const volatile int64_t *ahead = &nothing;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return;
    }
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) {
        ahead = found;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += *ahead;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed) {
        now->tv_sec += *ahead;
    }
    return failed;
}

time_t time(time_t *now) {
    struct timeval read;
    gettimeofday(&read, NULL);
    if (now != NULL) {
        *now = read.tv_sec;
    }
    return read.tv_sec;
}
