/*
 * vm2vm: file descriptors that come from a peer
 *
 * What may wait is done by threads, each of which ends when there is nothing
 * left to do. A peer whose descriptors do not close costs a thread for each, up
 * to some number; then vm2vm_fd_congested() says that it gets no more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "qemu/vm2vm-fd.h"

/* What one peer may have that does not close, and all of them together */
#define MAX_OF_PEER 64
#define MAX_THREADS 4096

typedef struct Job {
    int fd;
    bool signal;                /* before it is closed */
    const void *peer;
    QSIMPLEQ_ENTRY(Job) next;
} Job;

static QemuMutex lock;
static QSIMPLEQ_HEAD(, Job) jobs = QSIMPLEQ_HEAD_INITIALIZER(jobs);
static GHashTable *jobs_of;     /* peer: how many */
static unsigned int nr_threads;

static void __attribute__((constructor)) init_lock(void)
{
    qemu_mutex_init(&lock);
}

static unsigned int count_jobs(const void *peer, int more)
{
    gpointer n;

    if (!jobs_of) {
        jobs_of = g_hash_table_new(NULL, NULL);
    }
    n = g_hash_table_lookup(jobs_of, peer);
    if (more) {
        n = GUINT_TO_POINTER(GPOINTER_TO_UINT(n) + more);
        if (n) {
            g_hash_table_insert(jobs_of, (gpointer)peer, n);
        } else {
            g_hash_table_remove(jobs_of, peer);
        }
    }
    return GPOINTER_TO_UINT(n);
}

static void do_job(Job *job)
{
    uint64_t one = 1;

    if (job->signal) {
        ssize_t ret G_GNUC_UNUSED = write(job->fd, &one, sizeof(one));
    }
    close(job->fd);
}

static void *work(void *opaque)
{
    Job *job;

    qemu_mutex_lock(&lock);
    while ((job = QSIMPLEQ_FIRST(&jobs))) {
        QSIMPLEQ_REMOVE_HEAD(&jobs, next);
        qemu_mutex_unlock(&lock);
        do_job(job);
        qemu_mutex_lock(&lock);
        count_jobs(job->peer, -1);
        g_free(job);
    }
    nr_threads--;
    qemu_mutex_unlock(&lock);
    return NULL;
}

/*
 * qemu_thread_create() aborts if there is none to be had, which a peer could
 * see to. Then the jobs wait for a thread that is there, or for the next try.
 */
static bool create_thread(void)
{
    sigset_t all, old;
    pthread_t thread;
    bool created;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    created = !pthread_create(&thread, NULL, work, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (created) {
        pthread_detach(thread);
    }
    return created;
}

/* With the lock: those threads that there are may all be waiting */
static void add_thread(void)
{
    if (nr_threads < MAX_THREADS && create_thread()) {
        nr_threads++;
    }
}

/* Takes @fd */
static void start(const void *peer, int fd, bool signal)
{
    Job *job = g_new0(Job, 1);

    job->fd = fd;
    job->signal = signal;
    job->peer = peer;
    qemu_mutex_lock(&lock);
    QSIMPLEQ_INSERT_TAIL(&jobs, job, next);
    count_jobs(peer, 1);
    add_thread();
    qemu_mutex_unlock(&lock);
}

static bool is_anon(int fd, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(path, NULL);

    /* A path that somebody chose begins with a slash */
    return target && g_str_has_prefix(target, name) &&
        (g_str_has_suffix(name, "[") || strlen(target) == strlen(name));
}

void vm2vm_fd_close_of(const void *peer, int fd)
{
    if (fd < 0) {
        return;
    }
    if (is_anon(fd, "anon_inode:[eventfd]")) {
        close(fd);
    } else {
        start(peer, fd, false);
    }
}

void vm2vm_fd_close(int fd)
{
    vm2vm_fd_close_of(NULL, fd);
}

static bool is_unix_stream(int fd)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof(int);

    return is_anon(fd, "socket:[") &&
        !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
        !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
        domain == AF_UNIX && type == SOCK_STREAM;
}

/* No file system but tmpfs and hugetlbfs has seals. The latter lacks pages. */
static bool is_memory(int fd)
{
    const int wanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
    int seals = fcntl(fd, F_GET_SEALS);
    struct statfs fs;

    return seals != -1 && (seals & wanted) == wanted &&
        !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) &&
        !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

bool vm2vm_fd_is(int fd, Vm2vmFdKind kind)
{
    switch (kind) {
    case VM2VM_FD_EVENTFD:
        return is_anon(fd, "anon_inode:[eventfd]");
    case VM2VM_FD_DOMAIN:
        return is_anon(fd, "anon_inode:kvm-vm2vm-domain");
    case VM2VM_FD_SOCKET:
        return is_unix_stream(fd);
    case VM2VM_FD_MEMORY:
        return is_memory(fd);
    }
    return false;
}

void vm2vm_fd_signal(const void *peer, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    int copy;

    /* It may be full before the write, nevertheless: so not here */
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) ||
        vm2vm_fd_congested(peer)) {
        return;
    }
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0) {
        start(peer, copy, true);
    }
}

bool vm2vm_fd_congested(const void *peer)
{
    bool congested;

    qemu_mutex_lock(&lock);
    if (!QSIMPLEQ_EMPTY(&jobs)) {
        add_thread();
    }
    congested = count_jobs(peer, 0) >= MAX_OF_PEER;
    qemu_mutex_unlock(&lock);
    return congested;
}
