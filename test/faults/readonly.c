/*
 * A disk that becomes read-only, and writable again, under programs that have its files open: preloaded into them, each call that would
 * change something under READONLY_DIR fails with EROFS while the file READONLY_FLAG is there.
 *
 * Why not a remount: Linux refuses to make a file system read-only while a file on it is open for writing, and what does it by force (ext4 after
 * an error) is not undone without an unmount. Network file systems and storage of clusters do become so and recover.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int closed(void) {
  const char *flag = getenv("READONLY_FLAG");
  int saved = errno;
  int there = flag != NULL && syscall(SYS_faccessat, AT_FDCWD, flag, F_OK) == 0;
  errno = saved;
  return there;
}

static int inside(const char *path) {
  const char *dir = getenv("READONLY_DIR");
  size_t length = dir == NULL ? 0 : strlen(dir);
  return length > 0 && strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int fd_closed(int fd) {
  char name[64], path[4096];
  if (!closed()) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlink, name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return inside(path);
}

static int path_closed(int at, const char *path) {
  if (!closed() || path == NULL) return 0;
  if (path[0] == '/') return inside(path);
  if (at != AT_FDCWD) return fd_closed(at);
  char cwd[4096];
  return syscall(SYS_getcwd, cwd, sizeof cwd) > 0 && inside(cwd);
}

static int refuse(void) {
  errno = EROFS;
  return -1;
}

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

static int there(int at, const char *path) {
  int saved = errno;
  int found = syscall(SYS_faccessat, at, path, F_OK) == 0;
  errno = saved;
  return found;
}

/* What is there can be opened for reading, and who wants to make it anew is told by the kernel that it is there. */
static int open_refused(int at, const char *path, int flags) {
  if (!path_closed(at, path)) return 0;
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0 && there(at, path)) return 0;
  return changes(flags) || ((flags & O_CREAT) != 0 && !there(at, path));
}

/* A folder or link that is there is told to be, also on a read-only file system. */
static int make_refused(int at, const char *path) { return path_closed(at, path) && !there(at, path); }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PASS(result, name, parameters, arguments, condition) \
  result name parameters {                                   \
    static __typeof__(&name) next;                           \
    if (condition) return refuse();                          \
    if (next == NULL) next = NEXT(name);                     \
    return next arguments;                                   \
  }
#define OPEN(name)                                            \
  int name(const char *path, int flags, ...) {                \
    va_list more;                                             \
    va_start(more, flags);                                    \
    mode_t mode = va_arg(more, mode_t);                       \
    va_end(more);                                             \
    static __typeof__(&name) next;                            \
    if (open_refused(AT_FDCWD, path, flags)) return refuse(); \
    if (next == NULL) next = NEXT(name);                      \
    return next(path, flags, mode);                           \
  }
#define OPENAT(name)                                      \
  int name(int at, const char *path, int flags, ...) {    \
    va_list more;                                         \
    va_start(more, flags);                                \
    mode_t mode = va_arg(more, mode_t);                   \
    va_end(more);                                         \
    static __typeof__(&name) next;                        \
    if (open_refused(at, path, flags)) return refuse();   \
    if (next == NULL) next = NEXT(name);                  \
    return next(at, path, flags, mode);                   \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
PASS(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count), fd_closed(fd))
PASS(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), fd_closed(fd))
PASS(ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at), fd_closed(fd))
PASS(ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at), fd_closed(fd))
PASS(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), fd_closed(fd))
PASS(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at), fd_closed(fd))
PASS(int, ftruncate, (int fd, off_t length), (fd, length), fd_closed(fd))
PASS(int, ftruncate64, (int fd, off64_t length), (fd, length), fd_closed(fd))
PASS(int, truncate, (const char *path, off_t length), (path, length), path_closed(AT_FDCWD, path))
PASS(int, truncate64, (const char *path, off64_t length), (path, length), path_closed(AT_FDCWD, path))
PASS(int, rename, (const char *from, const char *to), (from, to), path_closed(AT_FDCWD, from) || path_closed(AT_FDCWD, to))
PASS(int, renameat, (int at, const char *from, int there, const char *to), (at, from, there, to), path_closed(at, from) || path_closed(there, to))
PASS(int, renameat2, (int at, const char *from, int there, const char *to, unsigned flags), (at, from, there, to, flags), path_closed(at, from) || path_closed(there, to))
PASS(int, link, (const char *from, const char *to), (from, to), make_refused(AT_FDCWD, to))
PASS(int, symlink, (const char *target, const char *path), (target, path), make_refused(AT_FDCWD, path))
PASS(int, unlink, (const char *path), (path), path_closed(AT_FDCWD, path))
PASS(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), path_closed(at, path))
PASS(int, remove, (const char *path), (path), path_closed(AT_FDCWD, path))
PASS(int, rmdir, (const char *path), (path), path_closed(AT_FDCWD, path))
PASS(int, mkdir, (const char *path, mode_t mode), (path, mode), make_refused(AT_FDCWD, path))
PASS(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), make_refused(at, path))
PASS(int, chmod, (const char *path, mode_t mode), (path, mode), path_closed(AT_FDCWD, path))
PASS(int, access, (const char *path, int mode), (path, mode), (mode & W_OK) != 0 && path_closed(AT_FDCWD, path))
