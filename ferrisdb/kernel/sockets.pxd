# Sockets and epoll, as the socket server uses them. Elsewhere than on Linux it can be built, and
# says ENOSYS when it is made.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <unistd.h>
    #define FDB_NET static inline __attribute__((unused))
    #if defined(__linux__)
    #include <sys/epoll.h>
    FDB_NET int fdb_accept(int fd) {
        return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    FDB_NET int fdb_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
    FDB_NET int fdb_epoll_ctl(int ep, int what, int fd, uint32_t events, uint64_t tag) {
        struct epoll_event event;
        event.events = events;
        event.data.u64 = tag;
        return epoll_ctl(ep, what, fd, &event);
    }
    FDB_NET void fdb_keep_alive(int fd) {
        int one = 1, idle = 300, interval = 100, count = 3;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
    #define FDB_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)
    #else
    struct epoll_event { uint32_t events; union { uint64_t u64; } data; };
    enum { EPOLLIN = 1, EPOLLOUT = 4, EPOLLERR = 8, EPOLLHUP = 16, EPOLL_CTL_ADD = 1,
           EPOLL_CTL_DEL, EPOLL_CTL_MOD };
    #define EPOLLEXCLUSIVE (1u << 28)
    #define EPOLLET (1u << 31)
    #define EPOLLRDHUP (1u << 13)
    FDB_NET int fdb_accept(int fd) { (void)fd; errno = ENOSYS; return -1; }
    FDB_NET int fdb_epoll_create(void) { errno = ENOSYS; return -1; }
    FDB_NET int fdb_epoll_ctl(int ep, int what, int fd, uint32_t events, uint64_t tag) {
        (void)ep; (void)what; (void)fd; (void)events; (void)tag; errno = ENOSYS; return -1;
    }
    FDB_NET int epoll_wait(int ep, struct epoll_event *events, int count, int ms) {
        (void)ep; (void)events; (void)count; (void)ms; errno = ENOSYS; return -1;
    }
    FDB_NET void fdb_keep_alive(int fd) { (void)fd; }
    #define FDB_SEND_FLAGS MSG_DONTWAIT
    #endif
    FDB_NET ssize_t fdb_send(int fd, const void *p, size_t n) {
        return send(fd, p, n, FDB_SEND_FLAGS);
    }
    FDB_NET ssize_t fdb_recv(int fd, void *p, size_t n) { return recv(fd, p, n, MSG_DONTWAIT); }
    """
    union epoll_data:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data data

    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    const uint32_t EPOLLERR
    const uint32_t EPOLLHUP
    const uint32_t EPOLLEXCLUSIVE
    const uint32_t EPOLLET
    const uint32_t EPOLLRDHUP
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_DEL
    const int EPOLL_CTL_MOD

    # Non-blocking, closed at exec; -1 with errno.
    int accept_socket "fdb_accept"(int fd)
    int epoll_create "fdb_epoll_create"()
    int epoll_control "fdb_epoll_ctl"(int ep, int what, int fd, uint32_t events, uint64_t tag)
    int epoll_wait(int ep, epoll_event *events, int count, int timeout_ms)
    # What a TCP connection is set to.
    void keep_alive "fdb_keep_alive"(int fd)
    # Never block, never raise SIGPIPE.
    ssize_t send_some "fdb_send"(int fd, const void *p, size_t n)
    ssize_t receive_some "fdb_recv"(int fd, void *p, size_t n)
    int close_fd "close"(int fd)
    ssize_t write_fd "write"(int fd, const void *p, size_t n)
