# A table's file: mapped, and each page checked before it is first touched.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ferrisdb.kernel.cpu cimport load64_relaxed
from ferrisdb.kernel.tableformat cimport PAGE_SHIFT

cdef enum:
    AHEAD_BYTES_MAX = 1 << 20   # most that is read ahead at once
    AHEAD_PAGES_MAX = 257       # pages that so many bytes lie in, of 4096 bytes or more

cdef class TableFile:
    cdef const uint8_t *base    # the file, mapped read-only
    cdef uint64_t map_bytes
    cdef int fd                 # -1: opened anew when a page is checked
    cdef bint kept              # counted among the files that stay open
    cdef bint closed
    cdef uint64_t page_area, page_count, group_count
    cdef uint64_t *page_seen    # a bit for each page whose checksum was found right
    cdef uint64_t *group_seen   # a bit for each page of page checksums
    cdef uint32_t *group_crcs
    cdef readonly str path
    cdef void read_ahead(self, uint64_t begin, uint64_t end) noexcept nogil
    cdef int check_pages(self, uint64_t first, uint64_t last) except -1 nogil
    cdef int _check_group(self, uint64_t group) except -1 nogil
    cdef int _read(self, uint8_t *into, uint64_t count, uint64_t offset) except -1 nogil
    cdef int corrupt(self, uint64_t offset, const char *expected, uint64_t found) except -1 nogil
    cdef int _check_open(self) except -1 nogil
    cdef _release(self)
    cdef _keep_file(self, bint nameless)
    cdef _drop_file(self)
    cdef int _open_again(self) except -1
    cdef int _read_from(self, int fd, uint8_t *into, uint64_t count,
                        uint64_t offset) except -1 nogil
    cdef _raise_errno(self, what)
    cdef _open_file(self, file)
    cdef bytes _read_bytes(self, uint64_t offset, uint64_t count)
    cdef uint64_t _file_size(self) except? 0
    cdef int _map(self, uint64_t nbytes) except -1
    cdef int _take_groups(self, bytes tail) except -1

cdef inline int seen(TableFile table, uint64_t offset, uint64_t count) except -1 nogil:
    # Make sure that the pages of [offset, offset + count) have been read and found right.
    cdef uint64_t first = offset >> PAGE_SHIFT, last = (offset + count - 1) >> PAGE_SHIFT
    if (last - first <= 1
            and load64_relaxed(&table.page_seen[first >> 6]) >> (first & 63) & 1
            and load64_relaxed(&table.page_seen[last >> 6]) >> (last & 63) & 1):
        return 0
    return table.check_pages(first, last)
