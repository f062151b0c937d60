/* Preloaded into the daemon by tests/it/power.rs and tests/it/failing_disk.rs.
 *
 * With DISK_TRACE set, every change of a file below DISK_ROOT is appended to that file, in the order it was made, so
 * that a test can say what a disk would hold had the power failed at any moment. With DISK_FAIL set to the path of a
 * file, syncs of the journal fail with EIO for as long as that file exists.
 *
 * A trace is a sequence of records in native byte order:
 *   kind u8, fd i32, offset u64, length u32, bytes, length u32, bytes
 * Rust's standard library calls the functions below through libc; nothing else writes to the state directory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 65536
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static const char *root, *fail;
static char *paths[MAX_FDS];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("DISK_TRACE");
    root = getenv("DISK_ROOT");
    fail = getenv("DISK_FAIL");
    if (path && root)
        trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* Not sled's files: after a power cut they are never trusted. */
static int ours(const char *path) {
    return root && path && strncmp(path, root, strlen(root)) == 0 && !strstr(path, "/index") && !strstr(path, "/damaged-");
}
static const char *path_of(int fd) { return fd >= 0 && fd < MAX_FDS ? paths[fd] : NULL; }

static void put(char kind, int fd, uint64_t offset, const void *a, uint32_t a_len, const void *b, uint32_t b_len) {
    if (trace < 0) return;
    char head[17];
    struct iovec parts[4];
    memcpy(head, &kind, 1);
    memcpy(head + 1, &fd, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &a_len, 4);
    parts[0] = (struct iovec){head, sizeof head};
    parts[1] = (struct iovec){(void *)a, a_len};
    parts[2] = (struct iovec){&b_len, 4};
    parts[3] = (struct iovec){(void *)b, b_len};
    if (syscall(SYS_writev, trace, parts, 4) < 0) abort();
}

static void put_path(char kind, int fd, const char *path) { put(kind, fd, 0, path, (uint32_t)strlen(path), "", 0); }

static int opened(int fd, const char *path, int flags, int was_there) {
    if (fd < 0 || fd >= MAX_FDS || !ours(path)) return fd;
    free(paths[fd]);
    paths[fd] = strdup(path);
    if ((flags & O_CREAT) && !was_there) put_path('c', fd, path);
    else if (flags & O_TRUNC) put_path('z', fd, path);
    return fd;
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    if (!ours(path)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = access(path, F_OK) == 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    int error = errno;
    opened(fd, path, flags, was_there);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags, mode) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }
int open(const char *path, int flags, ...) { MODE(flags, mode) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags, mode) return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags, mode) return open_any(dir, path, flags, mode); }

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < MAX_FDS) { free(paths[fd]); paths[fd] = NULL; }
    int result = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static void wrote(int fd, off_t at, const void *data, ssize_t count) {
    const char *path = path_of(fd);
    if (count > 0 && path) put('w', fd, (uint64_t)at, path, (uint32_t)strlen(path), data, (uint32_t)count);
}

ssize_t write(int fd, const void *data, size_t count) {
    if (!path_of(fd)) return syscall(SYS_write, fd, data, count);
    pthread_mutex_lock(&lock);
    int append = fcntl(fd, F_GETFL) & O_APPEND;
    off_t at = lseek(fd, 0, append ? SEEK_END : SEEK_CUR);
    ssize_t result = syscall(SYS_write, fd, data, count);
    int error = errno;
    wrote(fd, at, data, result);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!path_of(fd)) return syscall(SYS_writev, fd, parts, count);
    /* A short write is allowed: the first part that holds something is enough. */
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

static ssize_t write_at(int fd, const void *data, size_t count, off_t at) {
    if (!path_of(fd)) return syscall(SYS_pwrite64, fd, data, count, at);
    pthread_mutex_lock(&lock);
    ssize_t result = syscall(SYS_pwrite64, fd, data, count, at);
    int error = errno;
    wrote(fd, at, data, result);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) { return write_at(fd, data, count, at); }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) { return write_at(fd, data, count, at); }

static int resize(int fd, off_t length) {
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, length);
    int error = errno;
    const char *path = path_of(fd);
    if (result == 0 && path) put('t', fd, (uint64_t)length, path, (uint32_t)strlen(path), "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int ftruncate(int fd, off_t length) { return resize(fd, length); }
int ftruncate64(int fd, off64_t length) { return resize(fd, length); }

/* Only what was written before the sync began is known to be on disk after it. */
static int sync_any(long call, int fd) {
    char path[PATH_MAX] = "";
    pthread_mutex_lock(&lock);
    if (path_of(fd)) { snprintf(path, sizeof path, "%s", path_of(fd)); put_path('s', fd, path); }
    pthread_mutex_unlock(&lock);
    int result, error;
    if (fail && *path && strstr(path, "/journal/") && access(fail, F_OK) == 0) { result = -1; error = EIO; }
    else { result = (int)syscall(call, fd); error = errno; }
    pthread_mutex_lock(&lock);
    if (*path) put_path(result == 0 ? 'S' : 'F', fd, path);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int fsync(int fd) { return sync_any(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_any(SYS_fdatasync, fd); }

static int named(char kind, int result, const char *path, const char *other) {
    int error = errno;
    if (result == 0 && (ours(path) || ours(other)))
        put(kind, -1, 0, path, (uint32_t)strlen(path), other, (uint32_t)strlen(other));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    int error = errno;
    for (int fd = 0; result == 0 && fd < MAX_FDS; fd++)
        if (paths[fd] && strcmp(paths[fd], from) == 0) { free(paths[fd]); paths[fd] = strdup(to); }
    errno = error;
    return named('r', result, from, to);
}
int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    return named('u', (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), path, "");
}
int mkdir(const char *path, mode_t mode) {
    pthread_mutex_lock(&lock);
    return named('m', (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode), path, "");
}
int rmdir(const char *path) {
    pthread_mutex_lock(&lock);
    return named('d', (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR), path, "");
}
