/* Atomics, futex, CRC-32C, hash and prefetch: what Cython can't say itself.
 *
 * Memory order is named at each use: fdb_load_acquire, fdb_store_release, fdb_fence_full.
 * x86-64 and arm64 both; elsewhere the portable branches serve.
 */
#ifndef FERRISDB_CPU_H
#define FERRISDB_CPU_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#define FDB_INLINE static inline __attribute__((always_inline, unused))

FDB_INLINE uint64_t fdb_load64_acquire(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
FDB_INLINE uint32_t fdb_load32_acquire(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
FDB_INLINE uint64_t fdb_load64_relaxed(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED); }
FDB_INLINE uint32_t fdb_load32_relaxed(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED); }
FDB_INLINE void fdb_store64_release(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE); }
FDB_INLINE void fdb_store32_release(void *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELEASE); }
FDB_INLINE void fdb_store64_relaxed(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED); }
FDB_INLINE void fdb_store32_relaxed(void *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELAXED); }
FDB_INLINE uint32_t fdb_add32(void *p, uint32_t v) { return __atomic_fetch_add((uint32_t *)p, v, __ATOMIC_SEQ_CST); }
/* 1: *p was `expected` and is `v` now. */
FDB_INLINE int fdb_swap64(void *p, uint64_t expected, uint64_t v) {
    return __atomic_compare_exchange_n((uint64_t *)p, &expected, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
FDB_INLINE void fdb_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* A store and a full fence behind it; on x86-64 one instruction does both. */
FDB_INLINE void fdb_store64_fenced(void *p, uint64_t v) {
#if defined(__x86_64__)
    (void)__atomic_exchange_n((uint64_t *)p, v, __ATOMIC_SEQ_CST);
#else
    __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

FDB_INLINE void fdb_pause(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

FDB_INLINE void fdb_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }

/* Sleep while *word == expected, at most timeout_ns on the monotonic clock; spurious returns allowed. */
FDB_INLINE int fdb_futex_wait(void *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec ts;
    if (timeout_ns < 0) timeout_ns = 0;
#if defined(__linux__)
    ts.tv_sec = timeout_ns / 1000000000; ts.tv_nsec = timeout_ns % 1000000000;
    return syscall(SYS_futex, word, FUTEX_WAIT, expected, &ts, NULL, 0) == 0 ? 0 : errno;
#else
    if (fdb_load32_acquire(word) != expected) return 0;
    ts.tv_sec = 0; ts.tv_nsec = timeout_ns < 50000 ? timeout_ns : 50000;
    nanosleep(&ts, NULL);
    return 0;
#endif
}

FDB_INLINE void fdb_futex_wake(void *word, int count) {
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
#else
    (void)word; (void)count;
#endif
}

FDB_INLINE int64_t fdb_monotonic_ns(void) {
    struct timespec ts; clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
FDB_INLINE uint64_t fdb_wall_us(void) {
    struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)(ts.tv_nsec / 1000);
}

/* Number of the CPU that we run on, plus 1; 0: not known. */
FDB_INLINE uint32_t fdb_cpu_number(void) {
#if defined(__linux__) && defined(__USE_GNU)
    return (uint32_t)(sched_getcpu() + 1);
#else
    return 0;
#endif
}
/* Go on on another CPU of those that we may use, if there is one; the allowed set stays as it is. */
FDB_INLINE void fdb_leave_cpu(void) {
#if defined(__linux__) && defined(__USE_GNU)
    cpu_set_t all, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof all, &all) != 0) return;
    others = all;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0) return;
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof all, &all);
#endif
}

FDB_INLINE uint64_t fdb_load_u64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
FDB_INLINE uint32_t fdb_load_u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
FDB_INLINE void fdb_put_u64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }
FDB_INLINE void fdb_put_u32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

/* CRC-32C (Castagnoli), as iSCSI has it: crc(0, "123456789") == 0xE3069283. */
static uint32_t fdb_crc_table[256];
static void fdb_crc_table_fill(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        fdb_crc_table[n] = c;
    }
}
static uint32_t fdb_crc32c_soft(uint32_t crc, const uint8_t *p, size_t n) {
    if (!fdb_crc_table[1]) fdb_crc_table_fill();
    while (n--) crc = fdb_crc_table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t fdb_crc32c_hard(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc;
    for (; n >= 8; p += 8, n -= 8) c = _mm_crc32_u64(c, fdb_load_u64(p));
    for (; n; p++, n--) c = _mm_crc32_u8((uint32_t)c, *p);
    return (uint32_t)c;
}
#endif
static __attribute__((unused)) uint32_t fdb_crc32c(uint32_t seed, const uint8_t *p, size_t n) {
    uint32_t crc = ~seed;
#if defined(__x86_64__)
    static int hard = -1;
    if (hard < 0) hard = __builtin_cpu_supports("sse4.2") ? 1 : 0;
    crc = hard ? fdb_crc32c_hard(crc, p, n) : fdb_crc32c_soft(crc, p, n);
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    for (; n >= 8; p += 8, n -= 8) crc = __crc32cd(crc, fdb_load_u64(p));
    for (; n; p++, n--) crc = __crc32cb(crc, *p);
#else
    crc = fdb_crc32c_soft(crc, p, n);
#endif
    return ~crc;
}

/* The key hash, stable on disk: 16 bytes a step, each folded by a 64x64->128 multiplication
 * (the construction of wyhash; constants are our own odd numbers). */
#define FDB_HASH_K0 0x9E3779B97F4A7C15ull
#define FDB_HASH_K1 0xD1B54A32D192ED03ull
#define FDB_HASH_K2 0x8CB92BA72F3D8DD7ull
FDB_INLINE uint64_t fdb_mum(uint64_t a, uint64_t b) {
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}
FDB_INLINE uint64_t fdb_hash(const uint8_t *p, size_t n) {
    uint64_t h = FDB_HASH_K0 ^ n, a = 0, b = 0;
    size_t left = n;
    for (; left > 16; p += 16, left -= 16)
        h = fdb_mum(fdb_load_u64(p) ^ FDB_HASH_K1 ^ h, fdb_load_u64(p + 8) ^ FDB_HASH_K2);
    if (left >= 8) { a = fdb_load_u64(p); b = fdb_load_u64(p + left - 8); }
    else if (left >= 4) { a = fdb_load_u32(p); b = fdb_load_u32(p + left - 4); }
    else if (left) { a = p[0] | (uint64_t)p[left >> 1] << 8 | (uint64_t)p[left - 1] << 16; }
    h = fdb_mum(a ^ FDB_HASH_K1 ^ h, b ^ FDB_HASH_K2 ^ (h << 32 | h >> 32));
    return fdb_mum(h ^ FDB_HASH_K0, h ^ n ^ FDB_HASH_K1);
}

/* memcmp with lengths: < 0, 0, > 0; a prefix sorts first. */
FDB_INLINE int fdb_compare(const uint8_t *a, size_t an, const uint8_t *b, size_t bn) {
    size_t n = an < bn ? an : bn;
    if (n >= 8) {
        uint64_t x = __builtin_bswap64(fdb_load_u64(a)), y = __builtin_bswap64(fdb_load_u64(b));
        if (x != y) return x < y ? -1 : 1;
    }
    int c = memcmp(a, b, n);
    return c ? c : (an > bn) - (an < bn);
}
#endif
