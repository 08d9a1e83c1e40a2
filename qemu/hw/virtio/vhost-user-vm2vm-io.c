/*
 * vhost-user: a back-end that is another VM: the socket
 *
 * The other end is no friend. Nothing is waited for without a deadline, and all
 * waiting together is at most a tenth of the time: who uses that up is not
 * taken for a while. Nobody comes more often than once a second, nor is what is
 * wrong with him said each time. Descriptors that nobody asked for are closed
 * elsewhere; who has too many that do not close is dropped, and the chardev
 * takes nobody until they are.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qemu/vm2vm-fd.h"
#include "chardev/char-socket.h"
#include "vhost-user-vm2vm-int.h"

/* In microseconds: of one message, of all that come one after the other */
#define PATIENCE    1000000
#define BUDGET      2000000
/* A tenth of the time comes back */
#define REFILL      10
/* How long nobody is taken, in milliseconds: after that, and between two */
#define HELD        10000
#define INTERVAL    1000
/* The most that may follow a header */
#define PAYLOAD_MAX 4096
/* As much as the back-end's device shows to its guest */
#define INFLIGHT_MAX (4 * MiB)
/* The one message of the back-end's channel */
#define CONFIG_CHANGE 2

typedef struct QEMU_PACKED Header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} Header;

#define VERSION     0x1
#define REPLY       0x4
#define NEED_REPLY  0x8

static int64_t now_us(void)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

VhostUserVm2vm *vhost_user_vm2vm_get(VhostUserState *user)
{
    VhostUserVm2vm *v = user->vm2vm_link;

    if (!v) {
        v = user->vm2vm_link = g_new0(VhostUserVm2vm, 1);
        v->user = user;
        v->id = qemu_chr_fe_get_driver(user->chr)->label;
        v->timed = user->vm2vm == ON_OFF_AUTO_ON;
        v->budget = BUDGET;
        v->budget_at = now_us();
        v->msgfd = -1;
        v->domain = -1;
    }
    return v;
}

/* NULL: as always */
static VhostUserVm2vm *timed(VhostUserState *user)
{
    if (user->vm2vm != ON_OFF_AUTO_ON && !user->vm2vm_link) {
        return NULL;
    }
    return vhost_user_vm2vm_get(user)->timed ? user->vm2vm_link : NULL;
}

void vhost_user_vm2vm_cleanup(VhostUserState *user)
{
    VhostUserVm2vm *v = user->vm2vm_link;

    if (v) {
        v->vdev = NULL;
        vhost_user_vm2vm_end(v);
        if (v->listens) {
            qemu_chr_fe_set_handlers(user->chr, NULL, NULL, NULL, NULL, NULL,
                                     NULL, false);
        }
        vm2vm_fd_close_of(vhost_user_vm2vm_peer(v), v->msgfd);
        g_free(v);
        user->vm2vm_link = NULL;
    }
}

const void *vhost_user_vm2vm_peer(VhostUserVm2vm *v)
{
    return qemu_chr_fe_get_driver(v->user->chr);
}

/* NULL: it is no socket, or has gone */
static SocketChardev *socket_of(VhostUserVm2vm *v)
{
    Chardev *chr = qemu_chr_fe_get_driver(v->user->chr);

    return object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET) ?
        SOCKET_CHARDEV(chr) : NULL;
}

static int socket_fd(VhostUserVm2vm *v)
{
    SocketChardev *s = socket_of(v);

    return s && s->state == TCP_CHARDEV_STATE_CONNECTED &&
        s->ioc == QIO_CHANNEL(s->sioc) ? s->sioc->fd : -1;
}

/* The next connection, not this one, has to wait */
static void hold(VhostUserVm2vm *v, int ms)
{
    SocketChardev *s = socket_of(v);

    if (s) {
        s->not_before = MAX(s->not_before, now_us() / 1000 + ms);
    }
}

void vhost_user_vm2vm_connected(VhostUserVm2vm *v)
{
    hold(v, INTERVAL);
}

bool vhost_user_vm2vm_quiet(VhostUserState *user)
{
    return user->vm2vm_link && user->vm2vm_link->failures > 1;
}

void vhost_user_vm2vm_report(VhostUserState *user, Error *err)
{
    VhostUserVm2vm *v = user->vm2vm_link;

    if (vhost_user_vm2vm_quiet(user)) {
        error_free(err);
    } else {
        error_report_err(err);
    }
    if (v) {
        v->failures++;
        hold(v, INTERVAL);
    }
}

void vhost_user_vm2vm_give_up(VhostUserVm2vm *v, const char *why)
{
    if (!v->failures++) {
        error_report("vhost-user '%s': hanging up: %s", v->id, why);
    }
    hold(v, HELD);
    v->budget = BUDGET;
    v->budget_at = now_us() + HELD * 1000;
    qemu_chr_fe_disconnect(v->user->chr);
}

/* Wait until there is something to be done, for a while at most */
static bool wait_for(VhostUserVm2vm *v, int fd, short events, int64_t deadline)
{
    struct pollfd p = { .fd = fd, .events = events };
    int64_t start = now_us(), end;
    int ret;

    v->budget = MIN(BUDGET, v->budget + MAX(0, start - v->budget_at) / REFILL);
    v->budget_at = start;
    deadline = MIN(deadline, start + v->budget);
    do {
        end = now_us();
        ret = poll(&p, 1, MAX(0, deadline - end + 999) / 1000);
    } while (ret < 0 && errno == EINTR);
    end = now_us();
    v->budget -= MIN(v->budget, end - start);
    v->budget_at = end;
    return ret > 0;
}

/* What comes with a message: the first descriptor is kept */
static void take_fds(VhostUserVm2vm *v, struct msghdr *msg)
{
    struct cmsghdr *c;
    size_t i, n;

    for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (v->msgfd < 0) {
                v->msgfd = fd;
            } else {
                vm2vm_fd_close_of(vhost_user_vm2vm_peer(v), fd);
            }
        }
    }
}

static ssize_t receive(VhostUserVm2vm *v, int fd, void *buf, size_t len)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(VM2VM_FD_MAX * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = buf, .iov_len = len };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t ret = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (ret >= 0) {
        take_fds(v, &msg);
    }
    return ret;
}

static ssize_t transmit(int fd, const void *buf, size_t len, const int *fds,
                        int nr_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(16 * sizeof(int))];
    } control = { };
    struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (nr_fds) {
        assert(nr_fds <= 16);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.align), fds, nr_fds * sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* All of it, or hang up */
static int transfer(VhostUserVm2vm *v, void *buf, int size, bool write,
                    const int *fds, int nr_fds)
{
    int64_t deadline = now_us() + PATIENCE;
    int fd = socket_fd(v), done = 0;
    const char *why = NULL;

    while (done < size && fd >= 0 && !why) {
        ssize_t ret = write ?
            transmit(fd, buf + done, size - done, fds, done ? 0 : nr_fds) :
            receive(v, fd, buf + done, size - done);

        if (vm2vm_fd_congested(vhost_user_vm2vm_peer(v))) {
            why = "descriptors that it has sent do not close";
        } else if (ret > 0) {
            done += ret;
        } else if (!ret || (errno != EAGAIN && errno != EINTR)) {
            /* It has gone, and may come back */
            v->failures++;
            hold(v, INTERVAL);
            qemu_chr_fe_disconnect(v->user->chr);
            break;
        } else if (!wait_for(v, fd, write ? POLLOUT : POLLIN, deadline)) {
            why = write ? "it does not take a message in time" :
                          "no answer in time";
        }
    }
    if (why) {
        vhost_user_vm2vm_give_up(v, why);
    }
    if (done < size) {
        errno = why ? ETIMEDOUT : ENOTCONN;
        return -1;
    }
    return size;
}

/* The answer is to be one to what was asked */
static bool check_header(VhostUserVm2vm *v, const Header *h)
{
    if (h->request != v->request || h->flags != (VERSION | REPLY) ||
        h->size > PAYLOAD_MAX) {
        vhost_user_vm2vm_give_up(v, "what it answers is no answer");
        errno = EPROTO;
        return false;
    }
    v->payload = h->size;
    return true;
}

int vhost_user_vm2vm_read(VhostUserState *user, void *buf, int size)
{
    VhostUserVm2vm *v = timed(user);
    int ret;

    if (!v) {
        return qemu_chr_fe_read_all(user->chr, buf, size);
    }
    if (!v->payload) {
        /* Of the last message nobody wanted it */
        vm2vm_fd_close_of(vhost_user_vm2vm_peer(v), v->msgfd);
        v->msgfd = -1;
    }
    ret = transfer(v, buf, size, false, NULL, 0);
    if (ret == size && !v->payload) {
        Header h;

        memcpy(&h, buf, sizeof(h));
        return check_header(v, &h) ? ret : -1;
    }
    v->payload = 0;
    return ret;
}

int vhost_user_vm2vm_write(VhostUserState *user, const void *buf, int size,
                           const int *fds, int nr_fds)
{
    VhostUserVm2vm *v = timed(user);
    Header h;

    if (!v) {
        return qemu_chr_fe_write_all(user->chr, buf, size);
    }
    memcpy(&h, buf, sizeof(h));
    v->request = h.request;
    v->payload = 0;
    return transfer(v, (void *)buf, size, true, fds, nr_fds);
}

int vhost_user_vm2vm_get_msgfd(VhostUserState *user)
{
    VhostUserVm2vm *v = timed(user);
    int fd;

    if (!v) {
        return qemu_chr_fe_get_msgfd(user->chr);
    }
    fd = v->msgfd;
    v->msgfd = -1;
    return fd;
}

bool vhost_user_vm2vm_takes_inflight(struct vhost_dev *dev, int fd,
                                     uint64_t size, uint64_t offset)
{
    struct stat st;

    if (!dev->vm2vm || (vm2vm_fd_is(fd, VM2VM_FD_MEMORY) && !offset &&
                        !fstat(fd, &st) && size <= st.st_size &&
                        st.st_size <= INFLIGHT_MAX)) {
        return true;
    }
    vm2vm_fd_close_of(vhost_user_vm2vm_peer(dev->vm2vm), fd);
    vhost_user_vm2vm_give_up(dev->vm2vm, "its memory for requests in flight is "
                             "none, or may shrink");
    return false;
}

/* ---- What the back-end says by itself: that its configuration changed */

/* One message of those that have come: 1; 0: not all of one; -1: no more */
static int channel_message(VhostUserVm2vm *v, int fd, bool *answer)
{
    Header h;
    ssize_t ret = receive(v, fd, v->channel + v->channel_got,
                          sizeof(h) - v->channel_got);

    if (v->msgfd >= 0) {
        vm2vm_fd_close_of(vhost_user_vm2vm_peer(v), v->msgfd);
        v->msgfd = -1;
        vhost_user_vm2vm_give_up(v, "its channel is not for descriptors");
        return -1;
    }
    if (ret < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    v->channel_got += ret;
    if (!ret || v->channel_got < sizeof(h)) {
        return ret ? 0 : -1;
    }
    v->channel_got = 0;
    memcpy(&h, v->channel, sizeof(h));
    *answer = h.flags & NEED_REPLY;
    if (h.request != CONFIG_CHANGE || h.size ||
        (h.flags & ~NEED_REPLY) != VERSION) {
        vhost_user_vm2vm_give_up(v, "its channel is for changes of the "
                                 "configuration");
        return -1;
    }
    return 1;
}

void vhost_user_vm2vm_channel_init(struct vhost_dev *dev, QIOChannel *ioc)
{
    if (dev->vm2vm) {
        QIO_CHANNEL_SOCKET(ioc)->peer = vhost_user_vm2vm_peer(dev->vm2vm);
    }
}

bool vhost_user_vm2vm_channel(struct vhost_dev *dev, QIOChannel *ioc)
{
    VhostUserVm2vm *v = dev->vm2vm;
    int fd = QIO_CHANNEL_SOCKET(ioc)->fd, i, ret, changes = 0;
    struct QEMU_PACKED {
        Header h;
        uint64_t u64;
    } reply = { { CONFIG_CHANGE, VERSION | REPLY, sizeof(uint64_t) }, 0 };
    bool answer;

    /* However many there are, the configuration is read once */
    for (i = 0; i < 64; i++) {
        ret = channel_message(v, fd, &answer);
        if (ret < 0) {
            return false;
        }
        if (!ret) {
            break;
        }
        changes++;
        if (answer && transmit(fd, &reply, sizeof(reply), NULL, 0) !=
            sizeof(reply)) {
            return false;
        }
    }
    /* Without a run there is nobody to be told, nor a dev->vdev */
    if (changes && dev->started && dev->vdev && dev->config_ops &&
        dev->config_ops->vhost_dev_config_notifier) {
        dev->config_ops->vhost_dev_config_notifier(dev);
    }
    return true;
}

int vhost_user_vm2vm_tell(VhostUserVm2vm *v, uint32_t request,
                          const void *payload, uint32_t size, int fd,
                          bool answer)
{
    Header h = {
        .request = request,
        .flags = VERSION | (answer ? NEED_REPLY : 0),
        .size = size,
    };
    uint8_t buf[sizeof(h) + 64];
    uint64_t u64;

    assert(size <= 64);
    memcpy(buf, &h, sizeof(h));
    memcpy(buf + sizeof(h), payload, size);
    if (vhost_user_vm2vm_write(v->user, buf, sizeof(h) + size, &fd,
                               fd >= 0) < 0) {
        return -errno;
    }
    if (!answer) {
        return 0;
    }
    if (vhost_user_vm2vm_read(v->user, &h, sizeof(h)) < 0) {
        return -errno;
    }
    if (h.size != sizeof(u64)) {
        vhost_user_vm2vm_give_up(v, "what it answers is no answer");
        return -EPROTO;
    }
    if (vhost_user_vm2vm_read(v->user, &u64, sizeof(u64)) < 0) {
        return -errno;
    }
    return u64 ? -EIO : 0;
}
