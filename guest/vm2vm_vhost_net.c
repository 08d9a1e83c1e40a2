// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device behind the peer's network card: the kernel's vhost-net and a tap
 *
 * vhost-net has the peer's memory as it has a guest's: bus addresses are those of its memory
 * table, which is the window as it is mapped here.  Kicks and calls go by the driver, so that
 * this program has nothing to do with packets.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm2vm.h"
#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_ring.h"
#include "vm2vm_uapi.h"

#define MAX_PAIRS	16

/* Not in the headers of Linux 6.1 */
#ifndef TUN_F_USO4
#define TUN_F_USO4	0x20
#define TUN_F_USO6	0x40
#endif
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4	54
#define VIRTIO_NET_F_GUEST_USO6	55
#define VIRTIO_NET_F_HOST_USO	56
#endif

/* What a tap does for the peer's driver, and its driver for a tap */
static const struct offload {
	unsigned int flag;
	uint64_t features;
} offloads[] = {
	{ TUN_F_CSUM, 1ULL << VIRTIO_NET_F_GUEST_CSUM },
	{ TUN_F_TSO4, 1ULL << VIRTIO_NET_F_GUEST_TSO4 },
	{ TUN_F_TSO6, 1ULL << VIRTIO_NET_F_GUEST_TSO6 },
	{ TUN_F_TSO_ECN, 1ULL << VIRTIO_NET_F_GUEST_ECN },
	{ TUN_F_USO4, 1ULL << VIRTIO_NET_F_GUEST_USO4 },
	{ TUN_F_USO6, 1ULL << VIRTIO_NET_F_GUEST_USO6 },
	{}
};

#define HOST_FEATURES	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 | \
			 1ULL << VIRTIO_NET_F_HOST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_ECN)
/* Those of rings: what of them vhost-net has */
#define RING_FEATURES	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
			 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_NET_F_MRG_RXBUF)

struct pair {
	int tap, vhost;		/* -1 as long as it was not needed */
	bool attached;
};

struct vhost_net {
	const char *name;
	bool many;		/* queues, that the tap can have */
	unsigned int nr_pairs, nr_running;
	struct pair pairs[MAX_PAIRS];
	uint64_t ring_features;	/* that vhost-net has */
	uint32_t mtu, rarps;
	int socket;
};

static void must(bool good, const struct vhost_net *net, const char *what)
{
	if (!good)
		die("%s: %s: %m", net->name, what);
}

/* The tap */

/* One that is there: has it many queues?  One that is not is made with many. */
static bool has_many(const char *name)
{
	unsigned int flags = IFF_MULTI_QUEUE;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/net/%.32s/tun_flags", name);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%x", &flags) != 1)
			flags = 0;
		fclose(f);
	}
	return flags & IFF_MULTI_QUEUE;
}

static int open_tap(const struct vhost_net *net)
{
	struct ifreq ifr = {
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (net->many ? IFF_MULTI_QUEUE : 0),
	};
	/* A macvtap has a node of its own */
	bool is_node = net->name[0] == '/';
	const char *path = is_node ? net->name : "/dev/net/tun";
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		die("%s: %m", path);
	if (!is_node)
		snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", net->name);
	if (ioctl(fd, TUNSETIFF, &ifr))
		die("%s: %m%s", net->name, errno == EBUSY ? " (another program has it)" :
		    errno == EINVAL ? " (it is no tap)" : "");
	return fd;
}

static void set_carrier(const struct vhost_net *net, int tap, int on)
{
	/* A macvtap's is that of the card below */
	if (net->name[0] != '/')
		must(!ioctl(tap, TUNSETCARRIER, &on), net, "TUNSETCARRIER");
}

/* A queue to which nobody listens gets no packets */
static void attach(struct vhost_net *net, struct pair *p, bool on)
{
	struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (!net->many || p->attached == on)
		return;
	must(!ioctl(p->tap, TUNSETQUEUE, &ifr), net, "TUNSETQUEUE");
	p->attached = on;
}

static unsigned int wanted_offloads(uint64_t features)
{
	const struct offload *o;
	unsigned int flags = 0;

	for (o = offloads; o->flag; o++) {
		if (features & o->features)
			flags |= o->flag;
	}
	/* A tap takes both or none */
	if ((flags & (TUN_F_USO4 | TUN_F_USO6)) != (TUN_F_USO4 | TUN_F_USO6))
		flags &= ~(TUN_F_USO4 | TUN_F_USO6);
	/* None without checksums */
	return flags & TUN_F_CSUM ? flags : 0;
}

static uint64_t tap_features(int tap)
{
	uint64_t features = HOST_FEATURES, uso = 1ULL << VIRTIO_NET_F_GUEST_USO4 |
		1ULL << VIRTIO_NET_F_GUEST_USO6;
	const struct offload *o;

	for (o = offloads; o->flag; o++)
		features |= o->features;
	/* Linux 6.2 and later */
	if (ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6))
		features &= ~uso;
	else
		features |= 1ULL << VIRTIO_NET_F_HOST_USO;
	ioctl(tap, TUNSETOFFLOAD, 0);
	return features;
}

/* vhost-net */

static int open_vhost(struct vhost_net *net)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region;
	} memory = {
		.head.nregions = 1,
		.region = {
			.guest_phys_addr = dev.base,
			.memory_size = dev.size,
			.userspace_addr = (uintptr_t)window(dev.base),
		},
	};
	int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	uint64_t features;

	if (fd < 0)
		die("/dev/vhost-net: %m%s",
		    errno == ENOENT ? " (is the module vhost_net loaded?)" : "");
	must(!ioctl(fd, VHOST_SET_OWNER), net, "VHOST_SET_OWNER");
	must(!ioctl(fd, VHOST_GET_FEATURES, &features), net, "VHOST_GET_FEATURES");
	must(!ioctl(fd, VHOST_SET_MEM_TABLE, &memory), net, "VHOST_SET_MEM_TABLE");
	net->ring_features = features & RING_FEATURES;
	return fd;
}

static struct pair *open_pair(struct vhost_net *net, unsigned int index)
{
	struct pair *p = &net->pairs[index];

	if (p->vhost < 0) {
		p->tap = open_tap(net);
		p->attached = true;
		p->vhost = open_vhost(net);
	}
	return p;
}

static void begin_run(struct vhost_net *net, struct pair *p, uint64_t taken)
{
	uint64_t features = taken & net->ring_features;
	int size = taken & (1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_F_VERSION_1) ?
		sizeof(struct virtio_net_hdr_mrg_rxbuf) : sizeof(struct virtio_net_hdr);

	must(!ioctl(p->vhost, VHOST_SET_FEATURES, &features), net, "VHOST_SET_FEATURES");
	must(!ioctl(p->tap, TUNSETVNETHDRSZ, &size), net, "TUNSETVNETHDRSZ");
	must(!ioctl(p->tap, TUNSETOFFLOAD, wanted_offloads(taken)), net, "TUNSETOFFLOAD");
}

/* Returns what it does not take, or NULL */
static const char *set_ring(struct vhost_net *net, struct pair *p, struct backend *b, uint32_t q)
{
	struct ring *r = &b->rings[q];
	struct vhost_vring_state num = { .index = q % 2, .num = r->size };
	struct vhost_vring_state base = { .index = q % 2, .num = r->next };
	struct vhost_vring_file kick = { .index = q % 2, .fd = b->kicks[q] };
	struct vhost_vring_file call = { .index = q % 2, .fd = b->calls[q] };
	struct vhost_vring_addr addr = {
		.index = q % 2,
		.desc_user_addr = (uintptr_t)window(r->desc),
		.avail_user_addr = (uintptr_t)window(r->avail),
		.used_user_addr = (uintptr_t)window(r->used),
	};

	if (ioctl(p->vhost, VHOST_SET_VRING_NUM, &num))
		return "VHOST_SET_VRING_NUM";
	if (ioctl(p->vhost, VHOST_SET_VRING_BASE, &base))
		return "VHOST_SET_VRING_BASE";
	if (ioctl(p->vhost, VHOST_SET_VRING_ADDR, &addr))
		return "VHOST_SET_VRING_ADDR";
	must(!ioctl(p->vhost, VHOST_SET_VRING_KICK, &kick), net, "VHOST_SET_VRING_KICK");
	must(!ioctl(p->vhost, VHOST_SET_VRING_CALL, &call), net, "VHOST_SET_VRING_CALL");
	return NULL;
}

static int set_backend(struct pair *p, uint32_t q, int tap)
{
	struct vhost_vring_file file = { .index = q % 2, .fd = tap };

	return ioctl(p->vhost, VHOST_NET_SET_BACKEND, &file);
}

/* What vhost-net does not take is the peer's fault, and costs it this queue */
static void net_start(struct backend *b, uint32_t q)
{
	struct vhost_net *net = b->data;
	struct pair *p = open_pair(net, q / 2);
	const char *wrong;

	if (!b->running[q ^ 1])
		begin_run(net, p, b->taken);
	wrong = set_ring(net, p, b, q);
	if (!wrong && set_backend(p, q, p->tap))
		wrong = "VHOST_NET_SET_BACKEND";
	if (wrong) {
		ring_break(&b->rings[q], "%s: %m", wrong);
		return;
	}
	attach(net, p, true);
	if (!net->nr_running++)
		set_carrier(net, p->tap, 1);
}

/* When this returns vhost-net does nothing any more that has to do with the queue */
static void net_stop(struct backend *b, uint32_t q, bool drain)
{
	struct vhost_vring_state base = { .index = q % 2 };
	struct vhost_net *net = b->data;
	struct pair *p = &net->pairs[q / 2];

	if (ring_broken(&b->rings[q]))
		return;
	must(!set_backend(p, q, -1), net, "VHOST_NET_SET_BACKEND");
	must(!ioctl(p->vhost, VHOST_GET_VRING_BASE, &base), net, "VHOST_GET_VRING_BASE");
	b->rings[q].next = base.num;
	if (!--net->nr_running)
		set_carrier(net, p->tap, 0);
	if (!b->running[q ^ 1])
		attach(net, p, false);
}

/* What else the peer tells */

static void set_mtu(struct vhost_net *net, uint32_t mtu)
{
	struct ifreq ifr = { .ifr_mtu = mtu };

	if (!mtu || mtu == net->mtu || net->name[0] == '/')
		return;
	net->mtu = mtu;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", net->name);
	if (ioctl(net->socket, SIOCSIFMTU, &ifr))
		fprintf(stderr, "vm2vm: %s: the peer has an MTU of %u: %m\n", net->name, mtu);
}

/* Whoever has learned where its MAC address is learns that it is here now */
static void announce(struct vhost_net *net, uint64_t mac)
{
	struct {
		struct virtio_net_hdr_mrg_rxbuf header;
		uint8_t frame[ETH_ZLEN];
	} __attribute__((packed)) packet = {};
	uint8_t *f = packet.frame;
	int tap = net->pairs[0].tap;

	memset(f, 0xff, ETH_ALEN);
	memcpy(f + 6, &mac, ETH_ALEN);
	/* RARP for Ethernet and IPv4, "request reverse": who asks and who is asked for */
	memcpy(f + 12, "\x80\x35\x00\x01\x08\x00\x06\x04\x00\x03", 10);
	memcpy(f + 22, &mac, ETH_ALEN);
	memcpy(f + 32, &mac, ETH_ALEN);
	if (net->nr_running && write(tap, &packet, sizeof(packet)) < 0)
		fprintf(stderr, "vm2vm: %s: announcing the peer: %m\n", net->name);
}

static void net_update(struct backend *b)
{
	uint32_t rarps = reg32(VM2VM_PCI_RARP_COUNT);
	struct vhost_net *net = b->data;

	set_mtu(net, reg32(VM2VM_PCI_MTU));
	if (rarps != net->rarps)
		announce(net, reg64(VM2VM_PCI_RARP_MAC));
	net->rarps = rarps;
}

static const struct backend_ops net_ops = {
	.start = net_start,
	.stop = net_stop,
	.update = net_update,
};

int cmd_net(const char *tap, unsigned int pairs, uint64_t seconds)
{
	static struct vhost_net net;
	static struct backend b;
	unsigned int i;

	net.name = tap;
	net.many = tap[0] == '/' || has_many(tap);
	net.nr_pairs = pairs ?: net.many ? MAX_PAIRS : 1;
	if (net.nr_pairs > MAX_PAIRS)
		die("%u pairs of queues: 1 to %u", pairs, MAX_PAIRS);
	if (net.nr_pairs > 1 && !net.many)
		die("%s has one queue: make it with multi_queue", tap);
	for (i = 0; i < MAX_PAIRS; i++)
		net.pairs[i] = (struct pair){ .tap = -1, .vhost = -1 };
	net.socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	open_pair(&net, 0);
	set_carrier(&net, net.pairs[0].tap, 0);
	attach(&net, &net.pairs[0], false);
	net.rarps = reg32(VM2VM_PCI_RARP_COUNT);

	b.ops = &net_ops;
	b.data = &net;
	b.device_id = VIRTIO_ID_NET;
	b.nr_queues = 2 * net.nr_pairs;
	b.features = net.ring_features | tap_features(net.pairs[0].tap) |
		     1ULL << VIRTIO_NET_F_MTU | 1ULL << VIRTIO_NET_F_CTRL_VQ |
		     1ULL << VIRTIO_NET_F_GUEST_ANNOUNCE |
		     (net.nr_pairs > 1 ? 1ULL << VIRTIO_NET_F_MQ : 0);
	b.protocol = VM2VM_PCI_PROTOCOL_MTU | VM2VM_PCI_PROTOCOL_RARP;
	backend_run(&b, deadline_in(seconds));
	return 0;
}
