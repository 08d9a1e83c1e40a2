// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device behind the peer's, whatever it is: a vhost-user back-end of this guest's
 *
 * To that we are a front-end with one region of memory, which is the window: bus addresses are
 * its guest addresses.  It is registered with what the back-end offers, for as long as the
 * back-end is there.  Of a back-end that does not answer when it is to stop the window is
 * taken, so that nothing of what it does reaches the peer's next run.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_ring.h"
#include "vm2vm_uapi.h"

/* Longer than this a back-end does not have to answer */
#define ANSWER_MS	1000
#define RETRY_MS	200

enum message_id {
	GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9, SET_VRING_BASE = 10, GET_VRING_BASE = 11, SET_VRING_KICK = 12,
	SET_VRING_CALL = 13, GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17, SET_VRING_ENABLE = 18, NET_SET_MTU = 20, GET_CONFIG = 24,
	SET_CONFIG = 25, SET_INFLIGHT_FD = 32,
};

#define VERSION		1u
#define REPLY		4u
#define NEED_REPLY	8u
#define F_PROTOCOL	(1ULL << 30)
#define F_LOG_ALL	(1ULL << 26)
#define F_PLATFORM	(1ULL << VIRTIO_F_ACCESS_PLATFORM)
/* Where such a ring goes on is more than an index */
#define F_PACKED	(1ULL << VIRTIO_F_RING_PACKED)
/*
 * What the peer is not offered on its behalf, and it is not told of.  It takes bus addresses
 * for memory, whatever the peer's driver knows of an IOMMU: one who has not offered to ask for
 * translations hangs up on such features, and one who has would ask.
 */
#define F_WITHHELD	(F_PROTOCOL | F_LOG_ALL | F_PLATFORM | F_PACKED)
#define P_MQ		(1ULL << 0)
#define P_REPLY_ACK	(1ULL << 3)
/* Those that are the peer's matter, too */
#define P_CARRIED	(VM2VM_PCI_PROTOCOL_MTU | VM2VM_PCI_PROTOCOL_CONFIG | \
			 VM2VM_PCI_PROTOCOL_INFLIGHT_SHMFD)

struct ring_state {
	uint32_t index, num;
};

struct ring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct memory_table {
	uint32_t nr, padding;
	uint64_t guest, size, user, offset;
};

struct config {
	uint32_t offset, size, flags;
	uint8_t bytes[BACKEND_CONFIG_SIZE];
};

struct inflight {
	uint64_t size, offset;
	uint16_t queues, queue_size;
	uint32_t padding;
};

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct ring_state state;
		struct ring_addr addr;
		struct memory_table memory;
		struct config config;
		struct inflight inflight;
	} __attribute__((packed));
} __attribute__((packed));

#define HEADER	offsetof(struct message, u64)

struct front {
	const char *path;
	int fd, window, inflight;
	uint64_t features, protocol;
	uint32_t config_generation, mtu, nr_running;
	bool lost;		/* nothing is said any more */
	char why[128];
};

/* Messages.  What goes wrong with one ends the connection, and is said once. */

static void __attribute__((format(printf, 2, 3))) lose(struct front *f, const char *format, ...)
{
	va_list args;

	if (f->lost)
		return;
	f->lost = true;
	va_start(args, format);
	vsnprintf(f->why, sizeof(f->why), format, args);
	va_end(args);
}

static void send_message(struct front *f, struct message *m, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec iov = { .iov_base = m, .iov_len = HEADER + m->size };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (f->lost)
		return;
	m->flags |= VERSION;
	if (fd >= 0) {
		h.msg_control = control;
		h.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(f->fd, &h, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		lose(f, "message %u: %s", m->request, errno == EPIPE ? "it has hung up" :
		     strerror(errno));
}

static bool receive(struct front *f, void *to, size_t len)
{
	ssize_t n;

	for (; len && !f->lost; to += n, len -= n) {
		n = recv(f->fd, to, len, 0);
		if (n <= 0) {
			lose(f, "%s", n ? errno == EAGAIN ? "it does not answer" : strerror(errno) :
			     "it has hung up");
			return false;
		}
	}
	return !f->lost;
}

/* In @m is the answer, then; false: there is none */
static bool ask(struct front *f, struct message *m)
{
	uint32_t request = m->request;

	send_message(f, m, -1);
	if (f->lost || !receive(f, m, HEADER))
		return false;
	if (m->request != request || !(m->flags & REPLY) || m->size > sizeof(*m) - HEADER) {
		lose(f, "its answer to message %u is message %u with %u bytes, flags 0x%x",
		     request, m->request, m->size, m->flags);
		return false;
	}
	return receive(f, &m->u64, m->size);
}

static uint64_t ask_u64(struct front *f, enum message_id id)
{
	struct message m = { .request = id };

	return ask(f, &m) ? m.u64 : 0;
}

static void tell_u64(struct front *f, enum message_id id, uint64_t value, int fd)
{
	struct message m = { .request = id, .size = sizeof(m.u64), .u64 = value };

	send_message(f, &m, fd);
}

static void tell_state(struct front *f, enum message_id id, uint32_t index, uint32_t num)
{
	struct message m = {
		.request = id,
		.size = sizeof(m.state),
		.state = { .index = index, .num = num },
	};

	send_message(f, &m, -1);
}

/* What the back-end is */

/* How much there is it does not say, but answers only if it is not too much. */
static void get_config(struct front *f, struct backend *b)
{
	uint32_t size, whole;
	struct message m;

	for (size = BACKEND_CONFIG_SIZE; size && !f->lost; size -= 4) {
		whole = offsetof(struct config, bytes) + size;
		m = (struct message){ .request = GET_CONFIG, .size = whole };
		m.config.size = size;
		if (ask(f, &m) && m.size == whole && m.config.size == size) {
			memcpy(b->config, m.config.bytes, size);
			b->config_size = size;
			return;
		}
	}
	lose(f, "it gives no configuration space");
}

/* It is not said either; a card is the one that counts pairs of queues. */
static bool looks_like_net(uint64_t features)
{
	return features & (1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_NET_F_CTRL_VQ |
			   1ULL << VIRTIO_NET_F_MQ);
}

static void get_offer(struct front *f, struct backend *b)
{
	uint64_t queues = 1;

	f->features = ask_u64(f, GET_FEATURES);
	f->protocol = 0;
	if (f->features & F_PROTOCOL) {
		f->protocol = ask_u64(f, GET_PROTOCOL_FEATURES) & (P_MQ | P_REPLY_ACK | P_CARRIED);
		tell_u64(f, SET_PROTOCOL_FEATURES, f->protocol, -1);
	}
	if (f->protocol & P_MQ)
		queues = ask_u64(f, GET_QUEUE_NUM);
	tell_u64(f, SET_OWNER, 0, -1);
	b->device_id = looks_like_net(f->features) ? VIRTIO_ID_NET : 0;
	if (b->device_id == VIRTIO_ID_NET)
		queues *= 2;
	else if (!(f->protocol & P_MQ))
		queues = 1;
	if (!f->lost && (!queues || queues > 2 * VM2VM_PCI_MAX_QUEUES))
		lose(f, "it has %" PRIu64 " queues", queues);
	b->nr_queues = queues < dev.nr_queues ? queues : dev.nr_queues;
	b->features = f->features & ~F_WITHHELD;
	b->protocol = f->protocol & P_CARRIED;
	b->config_size = 0;
	if (f->protocol & VM2VM_PCI_PROTOCOL_CONFIG)
		get_config(f, b);
}

/* What the peer's device is */

static void set_memory(struct front *f)
{
	struct message m = {
		.request = SET_MEM_TABLE,
		.flags = f->protocol & P_REPLY_ACK ? NEED_REPLY : 0,
		.size = sizeof(m.memory),
		.memory = {
			.nr = 1,
			.guest = dev.base,
			.size = dev.size,
			.user = (uintptr_t)window(dev.base),
		},
	};

	send_message(f, &m, f->window);
	if (!(f->protocol & P_REPLY_ACK) || f->lost)
		return;
	if (receive(f, &m, HEADER) && m.size == sizeof(m.u64) &&
	    receive(f, &m.u64, m.size) && m.u64)
		lose(f, "it does not take the window");
}

static void set_inflight(struct front *f)
{
	struct message m = {
		.request = SET_INFLIGHT_FD,
		.size = sizeof(m.inflight),
		.inflight = {
			.size = reg64(VM2VM_PCI_INFLIGHT_SIZE),
			.queues = reg32(VM2VM_PCI_INFLIGHT_QUEUES),
			.queue_size = reg32(VM2VM_PCI_INFLIGHT_QUEUE_SIZE),
		},
	};

	if (f->protocol & VM2VM_PCI_PROTOCOL_INFLIGHT_SHMFD && m.inflight.size)
		send_message(f, &m, f->inflight);
}

static void front_start(struct backend *b, uint32_t q)
{
	struct ring *r = &b->rings[q];
	struct front *f = b->data;
	struct message m = {
		.request = SET_VRING_ADDR,
		.size = sizeof(m.addr),
		.addr = {
			.index = q,
			.desc = (uintptr_t)window(r->desc),
			.avail = (uintptr_t)window(r->avail),
			.used = (uintptr_t)window(r->used),
		},
	};

	if (!f->nr_running++) {
		tell_u64(f, SET_FEATURES,
			 (b->taken & ~F_WITHHELD) | (f->features & F_PROTOCOL), -1);
		set_memory(f);
		set_inflight(f);
	}
	tell_state(f, SET_VRING_NUM, q, r->size);
	tell_state(f, SET_VRING_BASE, q, r->next);
	send_message(f, &m, -1);
	tell_u64(f, SET_VRING_CALL, q, b->calls[q]);
	tell_u64(f, SET_VRING_KICK, q, b->kicks[q]);
	if (f->features & F_PROTOCOL)
		tell_state(f, SET_VRING_ENABLE, q, 1);
}

/* Whatever it does from here on, with memory of the peer's it is not */
static void take_memory(struct front *f)
{
	if (ioctl(dev.fd, VM2VM_REVOKE, f->window) || ioctl(dev.fd, VM2VM_REVOKE, f->inflight))
		die("%s: VM2VM_REVOKE: %m", dev.node);
}

/*
 * When this returns the back-end does nothing any more that has to do with the queue; or
 * what it does reaches nothing.
 */
static void front_stop(struct backend *b, uint32_t q, bool drain)
{
	struct front *f = b->data;
	struct message m = {
		.request = GET_VRING_BASE,
		.size = sizeof(m.state),
		.state = { .index = q },
	};

	if (ring_broken(&b->rings[q]))
		return;
	f->nr_running--;
	if (f->features & F_PROTOCOL)
		tell_state(f, SET_VRING_ENABLE, q, 0);
	if (ask(f, &m)) {
		b->rings[q].next = m.state.num;
		return;
	}
	take_memory(f);
	/* As far as it has got in order: what is in flight has a place of its own */
	if (drain)
		b->rings[q].next = ring_used_idx(&b->rings[q]);
	b->done = true;
}

static void front_update(struct backend *b)
{
	uint32_t generation = reg32(VM2VM_PCI_CONFIG_GENERATION), mtu = reg32(VM2VM_PCI_MTU), i;
	struct message m = { .request = SET_CONFIG };
	struct front *f = b->data;

	if (mtu != f->mtu && f->protocol & VM2VM_PCI_PROTOCOL_MTU)
		tell_u64(f, NET_SET_MTU, mtu, -1);
	f->mtu = mtu;
	if (generation != f->config_generation && f->protocol & VM2VM_PCI_PROTOCOL_CONFIG) {
		for (i = 0; i < b->config_size; i++)
			m.config.bytes[i] = dev.regs[VM2VM_PCI_CONFIG + i];
		m.config.size = b->config_size;
		m.size = offsetof(struct config, bytes) + b->config_size;
		send_message(f, &m, -1);
	}
	f->config_generation = generation;
	b->done |= f->lost;
}

/* It says nothing without being asked, so that this is the end of it. */
static void front_file(struct backend *b, unsigned int i)
{
	struct front *f = b->data;
	char byte;
	ssize_t n = recv(f->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	lose(f, "%s", n > 0 ? "it says something without being asked" : "it has hung up");
	b->done = true;
}

static const struct backend_ops front_ops = {
	.start = front_start,
	.stop = front_stop,
	.update = front_update,
	.file = front_file,
};

/* Connections */

static bool connect_to(struct front *f)
{
	struct timeval patience = {
		.tv_sec = ANSWER_MS / 1000,
		.tv_usec = ANSWER_MS % 1000 * 1000,
	};
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(f->path) >= sizeof(addr.sun_path))
		die("%s: too long for a socket", f->path);
	strcpy(addr.sun_path, f->path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->fd < 0)
		die("socket: %m");
	setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(f->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(f->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return true;
	snprintf(f->why, sizeof(f->why), "%s", strerror(errno));
	close(f->fd);
	return false;
}

/* As long as it is there */
static void serve(struct front *f, struct backend *b, int64_t deadline)
{
	f->lost = false;
	f->nr_running = 0;
	f->mtu = 0;
	f->config_generation = reg32(VM2VM_PCI_CONFIG_GENERATION);
	f->window = open_region(VM2VM_REGION_WINDOW);
	f->inflight = open_region(VM2VM_REGION_INFLIGHT);
	get_offer(f, b);
	if (!f->lost) {
		b->done = false;
		b->files[0] = f->fd;
		b->nr_files = 1;
		backend_run(b, deadline);
	}
	take_memory(f);
	close(f->window);
	close(f->inflight);
	close(f->fd);
	if (f->lost)
		fprintf(stderr, "vm2vm: %s: %s\n", f->path, f->why);
}

int cmd_vhost_user(const char *path, uint64_t seconds)
{
	int64_t deadline = deadline_in(seconds);
	struct front f = { .path = path };
	static struct backend b;
	bool said = false;

	b.ops = &front_ops;
	b.data = &f;
	claim_device();
	while (deadline < 0 || now_ms() < deadline) {
		if (connect_to(&f)) {
			said = false;
			serve(&f, &b, deadline);
		} else if (!said) {
			fprintf(stderr, "vm2vm: %s: %s: waiting for a back-end\n", path, f.why);
			said = true;
		}
		poll(NULL, 0, RETRY_MS);
	}
	return 0;
}
