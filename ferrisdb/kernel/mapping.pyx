# cython: language_level=3, boundscheck=False, wraparound=False
"""Map shared memory without keeping its file descriptor.

mmap.mmap keeps a duplicate of the descriptor for its whole life (until 3.13, where
`trackfd=False` exists); a coordinator with thousands of client segments would run out of
them. It also refuses to close while a view of it is alive; here the pages go with the last view.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint8_t
from posix.mman cimport (
    MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap,
)

import os

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_REMOVE
    #define MADV_REMOVE 9
    #endif
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    int MADV_REMOVE
    int MADV_POPULATE_WRITE
    int madvise(void *address, size_t length, int advice) nogil

cdef enum:
    PAGE_BYTES = 4096


@cython.final
cdef class Mapping:
    """A shared mapping of a whole file or segment; a buffer of bytes."""

    cdef uint8_t *base
    cdef size_t size
    cdef Py_ssize_t exports
    cdef bint writable
    cdef bint closed

    def __cinit__(self, int fd, size_t nbytes, bint writable):
        cdef void *address
        if nbytes == 0 or nbytes > <size_t>0x7fffffffffff:
            raise ValueError(f"can't map {nbytes} bytes")
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        address = mmap(NULL, nbytes, protection, MAP_SHARED, fd, 0)
        if address == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.base = <uint8_t *>address
        self.size = nbytes
        self.writable = writable

    def __dealloc__(self):
        self._unmap()

    cdef void _unmap(self) noexcept:
        if self.base != NULL:
            munmap(self.base, self.size)
            self.base = NULL

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.closed:
            raise ValueError("the mapping is closed")
        PyBuffer_FillInfo(buffer, self, self.base, self.size, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.closed and self.exports == 0:
            self._unmap()

    def close(self):
        """Give out no more views and unmap: now, or when the last view is released."""
        self.closed = True
        if self.exports == 0:
            self._unmap()

    def populate(self):
        """Fault in every page, writable, so that no later store has to.

        Raises: OSError; pages may be populated in part. ValueError once closed.
        Owner:  whoever created the segment, before anyone else maps it: the fallback for
                kernels before 5.14 stores each page's first byte back.
        """
        cdef int failed
        cdef int reason
        cdef size_t at
        cdef volatile uint8_t *p
        self._check_writable()
        # A view keeps the pages while the GIL is away.
        with memoryview(self), nogil:
            failed = madvise(self.base, self.size, MADV_POPULATE_WRITE)
            reason = errno
            if failed and reason == EINVAL:
                failed = 0
                at = 0
                while at < self.size:
                    p = self.base + at
                    p[0] = p[0]
                    at += PAGE_BYTES
        if failed:
            raise OSError(reason, os.strerror(reason))

    def punch(self):
        """Give every page back to the system; whoever maps them reads zeroes from now on.

        Raises: OSError; ValueError once closed.
        """
        cdef int failed
        cdef int reason
        self._check_writable()
        with memoryview(self), nogil:
            failed = madvise(self.base, self.size, MADV_REMOVE)
            reason = errno
        if failed:
            raise OSError(reason, os.strerror(reason))

    def _check_writable(self):
        if not self.writable:
            raise ValueError("the mapping is read-only")
