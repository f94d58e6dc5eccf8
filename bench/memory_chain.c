/* How long a get must wait for memory: loads that depend on each other, as its own do.
 *
 *     memory_chain KEYS    prints ns for: the key's object; its bucket; both; all three
 *
 * A get reads the object of a key (two lines of 64 bytes somewhere in the interpreter's heap), the
 * key's bucket in a table's hash index (one line), and its entry (two lines, and one of the value),
 * and knows where each is only when it has the one before. Nothing else is done here, so that this
 * is what no code can be faster than, on this machine, with that many keys.
 *
 * The index and the entries are files that are mapped, as tables are, written 2 MiB at a time.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 200000, ROUNDS = 5, OBJECT = 64, BUCKET = 64, KEYS_A_BUCKET = 6, ENTRY = 131 };

static volatile uint64_t nothing;   /* 0, which the compiler can't know */
static uint64_t state = 88172645463325252ull;

static uint64_t chosen(uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static double now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e9 + at.tv_nsec;
}

static const char *mapped(size_t bytes) {
    FILE *file = tmpfile();
    const size_t part = (size_t)2 << 20;
    char *block = malloc(part);
    const char *map;
    size_t at;
    if (file == NULL || block == NULL) exit(1);
    memset(block, 1, part);
    for (at = 0; at < bytes; at += part)
        if (write(fileno(file), block, part) != (ssize_t)part) exit(1);
    map = mmap(NULL, at, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (map == MAP_FAILED) exit(1);
    for (at = 0; at < bytes; at += 4096) nothing += map[at] - 1;
    free(block);
    return map;
}

int main(int argc, char **argv) {
    const size_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    const size_t buckets = keys / KEYS_A_BUCKET + 1;
    const char *objects = mmap(NULL, keys * OBJECT + 4096, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const char *index = mapped(buckets * BUCKET), *entries = mapped(keys * ENTRY + 256);
    uint32_t *key = malloc(CALLS * 4), *bucket = malloc(CALLS * 4), *entry = malloc(CALLS * 4);
    double best[4];
    if (keys == 0 || objects == MAP_FAILED || !key || !bucket || !entry) return 1;
    memset((void *)objects, 1, keys * OBJECT + 4096);
    for (int what = 0; what < 4; what++) best[what] = 1e12;
    for (int round = 0; round < ROUNDS * 4; round++) {
        const int what = round % 4;
        const uint64_t zero = nothing & 0x8000000000000000ull;
        uint64_t before = 0;
        double took;
        for (int i = 0; i < CALLS; i++) {
            key[i] = chosen(keys);
            bucket[i] = chosen(buckets);
            entry[i] = chosen(keys);
        }
        took = now_ns();
        for (int i = 0; i < CALLS; i++) {
            uint64_t at = before & zero;
            if (what != 1) {
                const volatile char *p = objects + 48 + (size_t)OBJECT * key[i] + at;
                at |= (p[0] | p[32]) & zero;
            }
            if (what != 0) {
                const volatile char *p = index + (size_t)BUCKET * bucket[i] + at;
                at |= p[0] & zero;
            }
            if (what == 3) {
                const volatile char *p = entries + (size_t)ENTRY * entry[i] + at;
                __builtin_prefetch((const char *)p + 64);
                __builtin_prefetch((const char *)p + 128);
                at |= p[0] & zero;
                at |= (p[64 + at] | p[115 + at]) & zero;
            }
            before = at + 1;
        }
        took = (now_ns() - took) / CALLS;
        if (took < best[what]) best[what] = took;
    }
    printf("key's object %.0f ns, bucket %.0f ns, both %.0f ns, all three %.0f ns\n",
           best[0], best[1], best[2], best[3]);
    return 0;
}
