// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device behind the peer's network card, for tests: frames go to and come from a tap
 *
 * It copies each frame twice and knows no offloads; the kernel's vhost-net is for use.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_ring.h"

#define HEADER		sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define MAX_FRAME	65536
/* Buffers that a late one writes to for ever */
#define LATE		1024

struct net {
	struct chain chain;
	uint64_t sent, received, dropped;
	bool late;
	struct segment last[LATE];
	uint32_t nr_last;
	uint8_t frame[HEADER + MAX_FRAME];
};

static int open_tap(const char *name, bool many)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | (many ? IFF_MULTI_QUEUE : 0) };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		die("/dev/net/tun: %m");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr))
		die("%s: %m", name);
	return fd;
}

/* From the peer */
static uint32_t net_send(struct backend *b, uint32_t q, struct chain *c)
{
	struct net *net = b->data;
	size_t len = chain_read(c, HEADER, net->frame, MAX_FRAME);

	/* What is not there any more is no frame */
	if (len && len < MAX_FRAME && ring_there(&b->rings[q], c) &&
	    write(b->files[q / 2], net->frame, len) == (ssize_t)len)
		net->sent++;
	else
		net->dropped++;
	return 0;
}

/* To the peer.  A frame for which there is no buffer is dropped, as a card does. */
static void net_receive(struct backend *b, unsigned int pair)
{
	struct virtio_net_hdr_mrg_rxbuf header = { .num_buffers = 1 };
	struct net *net = b->data;
	struct ring *r = &b->rings[2 * pair];
	struct chain *c = &net->chain;
	bool any = false;
	unsigned int n;
	ssize_t len;

	for (n = 0; n < BACKEND_BATCH; n++) {
		len = read(b->files[pair], net->frame + HEADER, MAX_FRAME);
		if (len <= 0)
			break;
		len += HEADER;
		if (!backend_serves(b, 2 * pair) || !ring_pop(r, c)) {
			net->dropped++;
			continue;
		}
		memcpy(net->frame, &header, HEADER);
		if (chain_write(c, 0, net->frame, len) < (size_t)len)
			net->dropped++;
		else
			net->received++;
		ring_push(r, c->head, c->in < (uint64_t)len ? c->in : (uint64_t)len);
		any = true;
	}
	if (any)
		backend_tell(b, 2 * pair);
}

static bool net_kick(struct backend *b, uint32_t q)
{
	struct net *net = b->data;

	if (q % 2)
		return backend_batch(b, q, &net->chain, net_send);
	ring_no_kick(&b->rings[q]);
	return false;
}

static void net_start(struct backend *b, uint32_t q)
{
}

static void net_stop(struct backend *b, uint32_t q, bool drain)
{
}

/*
 * As a back-end that is too slow, or wants to do harm: by SIGUSR1 it takes all buffers that
 * there are, and from then on it writes to them, whatever it is told.
 */
static volatile sig_atomic_t late_now;

static void begin_late(int signal)
{
	late_now = 1;
}

static void take_all(struct backend *b)
{
	struct net *net = b->data;
	struct chain *c = &net->chain;
	uint32_t q, i;

	for (q = 0; q < b->nr_queues; q += 2) {
		while (backend_serves(b, q) && ring_pop(&b->rings[q], c)) {
			for (i = 0; i < c->nr && net->nr_last < LATE; i++)
				net->last[net->nr_last++] = c->segments[i];
		}
	}
	printf("writes to %u buffers\n", net->nr_last);
	fflush(stdout);
}

static int write_late(struct backend *b)
{
	static uint8_t bytes[4096];
	struct net *net = b->data;
	uint32_t i, len;

	if (!late_now)
		return 100;
	if (!net->nr_last)
		take_all(b);
	memset(bytes, 0xe7, sizeof(bytes));
	for (i = 0; i < net->nr_last; i++) {
		len = net->last[i].len;
		window_write(net->last[i].iova, bytes, len < sizeof(bytes) ? len : sizeof(bytes));
	}
	return 0;
}

static int net_tick(struct backend *b)
{
	struct net *net = b->data;

	return net->late ? write_late(b) : -1;
}

static const struct backend_ops net_ops = {
	.start = net_start,
	.stop = net_stop,
	.kick = net_kick,
	.file = net_receive,
	.tick = net_tick,
};

int cmd_test_net(const char *tap, unsigned int pairs, uint64_t seconds, bool late)
{
	static struct net net;
	static struct backend b;
	unsigned int i;

	if (!pairs || pairs > BACKEND_FILES)
		die("%u pairs of queues: 1 to %u", pairs, BACKEND_FILES);
	net.late = late;
	if (late)
		signal(SIGUSR1, begin_late);
	b.ops = &net_ops;
	b.data = &net;
	b.deaf = late;
	b.device_id = VIRTIO_ID_NET;
	b.nr_queues = 2 * pairs;
	b.features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
		     1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
		     1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_GUEST_ANNOUNCE |
		     (pairs > 1 ? 1ULL << VIRTIO_NET_F_MQ : 0);
	for (i = 0; i < pairs; i++)
		b.files[b.nr_files++] = open_tap(tap, pairs > 1);
	backend_run(&b, deadline_in(seconds));
	printf("sent %" PRIu64 " received %" PRIu64 " dropped %" PRIu64 "\n", net.sent,
	       net.received, net.dropped);
	return 0;
}
