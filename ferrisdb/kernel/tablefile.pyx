# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Open, map and check the file of one table.

The file is mapped; a page is read by pread and checked against its checksum before the map is
touched there for the first time, so that an I/O error or a cut file is a typed error. Later
reads cost a bit test. The bits are set without a lock: a lost one means one more check.
"""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, fcntl, open as posix_open
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, mmap, munmap
from posix.stat cimport fstat, struct_stat
from posix.unistd cimport _SC_PAGESIZE, close as posix_close, pread, sysconf
from ferrisdb.kernel.cpu cimport crc32c, load_u32, load64_relaxed, store64_relaxed
from ferrisdb.kernel.tableformat cimport GROUP_SHIFT, PAGE_SHIFT, TABLE_PAGE_BYTES

from ferrisdb.errors import ClosedError, CorruptionError, StorageError

cdef extern from "fcntl.h":
    int F_DUPFD_CLOEXEC

cdef extern from "sys/mman.h":
    int MADV_RANDOM
    int MADV_WILLNEED
    int madvise(void *address, size_t length, int advice) nogil
    int mincore(void *address, size_t length, unsigned char *present) nogil

cdef enum:
    BATCH_PAGES = 4
    FILES_KEPT = 256            # tables beyond them open their file for each page they check

cdef int files_kept = 0         # of this process; under the GIL
cdef uint64_t system_page_bytes = sysconf(_SC_PAGESIZE)


cdef class TableFile:
    """A table's file; the base of `Table`, which knows what the bytes mean."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self._release()
        free(self.page_seen)
        free(self.group_seen)
        free(self.group_crcs)

    cdef _release(self):
        if self.base != NULL:
            munmap(<void *>self.base, self.map_bytes)
            self.base = NULL
        self._drop_file()

    cdef _keep_file(self, bint nameless):
        """Keep the file open for later checks, unless there are many tables that do.

        A process may open a thousand files by default, and a database has more tables than that
        from 64 GB on. The name lasts as long as whoever reads has the table pinned.
        """
        global files_kept
        if files_kept < FILES_KEPT or nameless:
            self.kept = True
            files_kept += 1
        else:
            self._drop_file()

    cdef _drop_file(self):
        global files_kept
        if self.fd >= 0:
            posix_close(self.fd)
            self.fd = -1
            files_kept -= self.kept
            self.kept = False

    cdef _raise_errno(self, what):
        raise StorageError(errno, f"{os.strerror(errno)}: the table {what}", self.path)

    cdef _open_file(self, file):
        cdef bytes name
        if isinstance(file, int):
            self.fd = fcntl(<int>file, F_DUPFD_CLOEXEC, <int>0)
        else:
            name = os.fsencode(file)
            self.fd = posix_open(<const char *>name, O_RDONLY | O_CLOEXEC)
        if self.fd < 0:
            self._raise_errno("can't be opened")

    cdef uint64_t _file_size(self) except? 0:
        cdef struct_stat status
        if fstat(self.fd, &status) != 0:
            self._raise_errno("can't be examined")
        return status.st_size

    cdef int _map(self, uint64_t nbytes) except -1:
        cdef void *mapped = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, self.fd, 0)
        if mapped == MAP_FAILED:
            self._raise_errno("can't be mapped")
        # Else a fault reads what lies around it, megabytes on some machines, where a lookup needs
        # a page; where memory is short that drives out what others need. Scans ask for what
        # lies ahead of them by themselves (read_ahead).
        madvise(mapped, nbytes, MADV_RANDOM)
        self.base = <const uint8_t *>mapped
        self.map_bytes = nbytes
        return 0

    cdef int _take_groups(self, bytes tail) except -1:
        """Copy the checksums of the page checksums; none of the pages has been seen."""
        cdef uint64_t i
        cdef const uint8_t *groups = tail
        self.page_seen = <uint64_t *>calloc(self.page_count // 64 + 1, 8)
        self.group_seen = <uint64_t *>calloc(self.group_count // 64 + 1, 8)
        self.group_crcs = <uint32_t *>calloc(self.group_count + 1, 4)
        if self.page_seen == NULL or self.group_seen == NULL or self.group_crcs == NULL:
            raise MemoryError
        for i in range(self.group_count):
            self.group_crcs[i] = load_u32(groups + 4 * i)
        return 0

    cdef bytes _read_bytes(self, uint64_t offset, uint64_t count):
        """Read bytes whose count has been checked against the file's size."""
        cdef bytes read = PyBytes_FromStringAndSize(NULL, count)
        if count:
            self._read(<uint8_t *><const uint8_t *>read, count, offset)
        return read

    # Reading and checking pages

    cdef int _read(self, uint8_t *into, uint64_t count, uint64_t offset) except -1 nogil:
        cdef int fd = self.fd
        if fd >= 0:
            return self._read_from(fd, into, count, offset)
        with gil:
            fd = self._open_again()
        try:
            return self._read_from(fd, into, count, offset)
        finally:
            posix_close(fd)

    cdef int _open_again(self) except -1:
        cdef bytes name = os.fsencode(self.path)
        cdef int fd
        self._check_open()
        fd = posix_open(<const char *>name, O_RDONLY | O_CLOEXEC)
        if fd < 0:
            self._raise_errno("can't be opened again")
        return fd

    cdef int _read_from(self, int fd, uint8_t *into, uint64_t count,
                        uint64_t offset) except -1 nogil:
        cdef int64_t got
        while count:
            got = pread(fd, into, count, <int64_t>offset)
            if got < 0 and errno == EINTR:
                continue
            if got < 0:
                with gil:
                    self._raise_errno(f"can't be read at byte {offset}")
            if got == 0:
                with gil:
                    raise CorruptionError(self.path, offset, f"{count} more bytes",
                                          "the end of the file")
            into += got
            offset += got
            count -= got
        return 0

    cdef void read_ahead(self, uint64_t begin, uint64_t end) noexcept nogil:
        """Have the system read what of [begin, end) is not in memory, without waiting for it.

        Shape: at most AHEAD_BYTES_MAX, within the map. Advice that is refused changes no answer.
        Cost:  two microseconds a MiB where all is in memory: asking first is a sixth of asking for.
        """
        cdef unsigned char present[AHEAD_PAGES_MAX]
        cdef uint64_t i, count
        begin -= begin % system_page_bytes
        count = (end - begin + system_page_bytes - 1) // system_page_bytes
        if mincore(<void *>(self.base + begin), end - begin, present) != 0:
            return
        for i in range(count):
            if not present[i] & 1:
                madvise(<void *>(self.base + begin), end - begin, MADV_WILLNEED)
                return

    cdef int check_pages(self, uint64_t first, uint64_t last) except -1 nogil:
        cdef uint8_t pages[BATCH_PAGES * TABLE_PAGE_BYTES]
        cdef uint64_t page = first, batch, i, offset, count, n
        cdef uint32_t found, expected
        cdef uint64_t *word
        if last >= self.page_count or first > last:
            return self.corrupt(first << PAGE_SHIFT, b"a place within the table", last)
        while page <= last:
            if load64_relaxed(&self.page_seen[page >> 6]) >> (page & 63) & 1:
                page += 1
                continue
            batch = min(<uint64_t>BATCH_PAGES, last - page + 1)
            offset = page << PAGE_SHIFT
            count = min(batch << PAGE_SHIFT, self.page_area - offset)
            self._read(pages, count, offset)
            for i in range(batch):
                n = min(<uint64_t>TABLE_PAGE_BYTES, count - (i << PAGE_SHIFT))
                found = crc32c(0, pages + (i << PAGE_SHIFT), n)
                self._check_group(page >> GROUP_SHIFT)
                expected = load_u32(self.base + self.page_area + 4 * page)
                if found != expected:
                    with gil:
                        raise CorruptionError(self.path, page << PAGE_SHIFT,
                                              f"a page with checksum {expected:#010x}",
                                              f"{found:#010x}")
                word = &self.page_seen[page >> 6]
                store64_relaxed(word, load64_relaxed(word) | <uint64_t>1 << (page & 63))
                page += 1
        return 0

    cdef int _check_group(self, uint64_t group) except -1 nogil:
        cdef uint8_t crcs[TABLE_PAGE_BYTES]
        cdef uint64_t *word = &self.group_seen[group >> 6]
        cdef uint64_t offset, count
        cdef uint32_t found
        if load64_relaxed(word) >> (group & 63) & 1:
            return 0
        offset = self.page_area + (group << PAGE_SHIFT)
        count = min(<uint64_t>TABLE_PAGE_BYTES, 4 * self.page_count - (group << PAGE_SHIFT))
        self._read(crcs, count, offset)
        found = crc32c(0, crcs, count)
        if found != self.group_crcs[group]:
            with gil:
                raise CorruptionError(self.path, offset,
                                      f"checksums with checksum {self.group_crcs[group]:#010x}",
                                      f"{found:#010x}")
        store64_relaxed(word, load64_relaxed(word) | <uint64_t>1 << (group & 63))
        return 0

    cdef int corrupt(self, uint64_t offset, const char *expected, uint64_t found) except -1 nogil:
        with gil:
            raise CorruptionError(self.path, offset, expected.decode(), found)

    cdef int _check_open(self) except -1 nogil:
        if self.closed:
            with gil:
                raise ClosedError(f"{self.path}: the table is closed")
        return 0
