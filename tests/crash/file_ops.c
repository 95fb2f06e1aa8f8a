/* Counts what a process does to files under a folder, and kills it at the k-th of these calls (for LD_PRELOAD).

   CRASH_FOLDER: the folder. CRASH_STATE: a file of two 64-bit numbers, shared by all processes: how many calls there
   were, and at which to kill (0: never). CRASH_JOURNAL: a file that is told what is on disk for sure; its lines are
   "size DEVICE:INODE BYTES" for what a file had when it was opened or synced, "rename FROM TO KEPT" with a link to what
   TO was before, "folder PATH" for a folder that was synced. Killed is before the call; of a write, half is done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static volatile int64_t *state;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CRASH_STATE");
  folder = getenv("CRASH_FOLDER");
  if (!path || !folder) return;
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR);
  if (fd >= 0) state = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd >= 0) syscall(SYS_close, fd);
  if (state == MAP_FAILED) state = NULL;
}

static int under(const char *path) {
  return state && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_ours(int dir, const char *path) {
  char whole[2 * PATH_MAX], link[64];
  if (!state || !path) return 0;
  if (path[0] == '/') return under(path);
  if (dir == AT_FDCWD) {
    if (!getcwd(whole, PATH_MAX)) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, whole, PATH_MAX - 1);
    if (n < 0) return 0;
    whole[n] = 0;
  }
  strcat(whole, "/");
  strncat(whole, path, PATH_MAX - 1);
  return under(whole);
}

static int path_of(int fd, char *path) {
  char link[64];
  if (!state) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return under(path);
}

/* Whether this is the call to die at; the number of the call. */
static int64_t counted(int *last) {
  int64_t number = __atomic_add_fetch(&state[0], 1, __ATOMIC_SEQ_CST);
  *last = number == state[1];
  return number;
}

static int64_t count(void) {
  int last;
  int64_t number = counted(&last);
  if (last) kill(getpid(), SIGKILL);
  return number;
}

static void journal(const char *format, ...) {
  const char *path = getenv("CRASH_JOURNAL");
  char line[3 * PATH_MAX];
  if (!path) return;
  va_list list;
  va_start(list, format);
  int n = vsnprintf(line, sizeof line, format, list);
  va_end(list);
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (fd < 0) return;
  syscall(SYS_write, fd, line, n);
  syscall(SYS_close, fd);
}

static void journal_size(int fd) {
  struct stat found;
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
    journal("size %ju:%ju %jd\n", (uintmax_t)found.st_dev, (uintmax_t)found.st_ino, (intmax_t)found.st_size);
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
  int changes = (flags & O_ACCMODE) != O_RDONLY && is_ours(dir, path);
  if (changes) count();
  int fd = syscall(SYS_openat, dir, path, flags, mode);
  if (changes && fd >= 0) journal_size(fd);
  return fd;
}

#define MODE(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); mode = va_arg(l, mode_t); va_end(l); }

int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_any(dir, path, flags, mode); }

ssize_t write(int fd, const void *bytes, size_t size) {
  REAL(write);
  char path[PATH_MAX];
  int last = 0;
  if (path_of(fd, path)) counted(&last);
  if (last) {
    real(fd, bytes, size / 2);
    kill(getpid(), SIGKILL);
  }
  return real(fd, bytes, size);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
  REAL(sendfile);
  char path[PATH_MAX];
  if (path_of(to, path)) count();
  return real(to, from, offset, size);
}

int fsync(int fd) {
  REAL(fsync);
  char path[PATH_MAX];
  int ours = path_of(fd, path);
  if (ours) count();
  int code = real(fd);
  struct stat found;
  if (ours && fstat(fd, &found) == 0) {
    if (S_ISDIR(found.st_mode)) journal("folder %s\n", path);
    else journal_size(fd);
  }
  return code;
}

int ftruncate64(int fd, off_t size) {
  REAL(ftruncate64);
  char path[PATH_MAX];
  if (path_of(fd, path)) count();
  return real(fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to) {
  REAL(rename);
  if (is_ours(AT_FDCWD, to)) {
    int64_t number = count();
    const char *journal_path = getenv("CRASH_JOURNAL");
    if (journal_path) {
      char kept[PATH_MAX];
      snprintf(kept, sizeof kept, "%s.%jd", journal_path, (intmax_t)number);
      int code = syscall(SYS_linkat, AT_FDCWD, to, AT_FDCWD, kept, 0);
      int done = real(from, to);
      if (done == 0) journal("rename %s %s %s\n", from, to, code == 0 ? kept : "-");
      return done;
    }
  }
  return real(from, to);
}

int unlink(const char *path) {
  REAL(unlink);
  if (is_ours(AT_FDCWD, path)) count();
  return real(path);
}
int unlinkat(int dir, const char *path, int flags) {
  REAL(unlinkat);
  if (is_ours(dir, path)) count();
  return real(dir, path, flags);
}
int rmdir(const char *path) {
  REAL(rmdir);
  if (is_ours(AT_FDCWD, path)) count();
  return real(path);
}
int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  if (is_ours(AT_FDCWD, path)) count();
  return real(path, mode);
}
int link(const char *from, const char *to) {
  REAL(link);
  if (is_ours(AT_FDCWD, to)) count();
  return real(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
  REAL(linkat);
  if (is_ours(b, to)) count();
  return real(a, from, b, to, flags);
}
int flock(int fd, int operation) {
  REAL(flock);
  char path[PATH_MAX];
  if (path_of(fd, path)) count();
  return real(fd, operation);
}
