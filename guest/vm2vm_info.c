// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is to be seen of devices: as text, a line for each field, or as JSON
 */
#include <dirent.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm2vm.h"
#include "vm2vm_dev.h"

static bool json, first;

static void begin_object(void)
{
	first = true;
	if (json)
		putchar('{');
}

static void key(const char *name)
{
	if (json)
		printf("%s\n  \"%s\": ", first ? "" : ",", name);
	else
		printf("%s ", name);
	first = false;
}

/* Numbers are JSON's own, those that people want in hexadecimal are strings. */
static void __attribute__((format(printf, 2, 3))) field(const char *name, const char *format, ...)
{
	bool text = json && (format[0] != '%' || strchr(format, 's'));
	va_list args;

	key(name);
	if (text)
		putchar('"');
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	if (text)
		putchar('"');
	if (!json)
		putchar('\n');
}

static const char *unapproved(void)
{
	switch (reg32(VM2VM_PCI_UNAPPROVED)) {
	case VM2VM_PCI_UNAPPROVED_FILL:
		return "fill";
	case VM2VM_PCI_UNAPPROVED_REPORT:
		return "report";
	case VM2VM_PCI_UNAPPROVED_STOP:
		return "stop";
	}
	return "unknown";
}

static const char *kind(uint32_t device)
{
	switch (device) {
	case 0:
		return "none";
	case VIRTIO_ID_NET:
		return "net";
	case VIRTIO_ID_BLOCK:
		return "blk";
	case VIRTIO_ID_RNG:
		return "rng";
	case VIRTIO_ID_SCSI:
		return "scsi";
	case VIRTIO_ID_VSOCK:
		return "vsock";
	case VIRTIO_ID_FS:
		return "fs";
	}
	return "other";
}

struct feature {
	unsigned int bit;
	const char *name;
};

static const struct feature of_rings[] = {
	{ VIRTIO_RING_F_INDIRECT_DESC, "indirect_desc" },
	{ VIRTIO_RING_F_EVENT_IDX, "event_idx" },
	{ VIRTIO_F_VERSION_1, "version_1" },
	{ VIRTIO_F_ACCESS_PLATFORM, "access_platform" },
	{ VIRTIO_F_RING_PACKED, "ring_packed" },
	{ VIRTIO_F_IN_ORDER, "in_order" },
	{ VIRTIO_F_ORDER_PLATFORM, "order_platform" },
	{}
};

static const struct feature of_net[] = {
	{ VIRTIO_NET_F_CSUM, "csum" }, { VIRTIO_NET_F_GUEST_CSUM, "guest_csum" },
	{ VIRTIO_NET_F_MTU, "mtu" }, { VIRTIO_NET_F_MAC, "mac" },
	{ VIRTIO_NET_F_GUEST_TSO4, "guest_tso4" }, { VIRTIO_NET_F_GUEST_TSO6, "guest_tso6" },
	{ VIRTIO_NET_F_GUEST_ECN, "guest_ecn" }, { VIRTIO_NET_F_GUEST_UFO, "guest_ufo" },
	{ VIRTIO_NET_F_HOST_TSO4, "host_tso4" }, { VIRTIO_NET_F_HOST_TSO6, "host_tso6" },
	{ VIRTIO_NET_F_HOST_ECN, "host_ecn" }, { VIRTIO_NET_F_HOST_UFO, "host_ufo" },
	{ VIRTIO_NET_F_MRG_RXBUF, "mrg_rxbuf" }, { VIRTIO_NET_F_STATUS, "status" },
	{ VIRTIO_NET_F_CTRL_VQ, "ctrl_vq" }, { VIRTIO_NET_F_CTRL_RX, "ctrl_rx" },
	{ VIRTIO_NET_F_CTRL_VLAN, "ctrl_vlan" }, { VIRTIO_NET_F_GUEST_ANNOUNCE, "guest_announce" },
	{ VIRTIO_NET_F_MQ, "mq" }, { VIRTIO_NET_F_CTRL_MAC_ADDR, "ctrl_mac_addr" },
	{ 54, "guest_uso4" }, { 55, "guest_uso6" }, { 56, "host_uso" },
	{}
};

static void features_in(const struct feature *f, uint64_t *features, bool *any)
{
	for (; f->name; f++) {
		if (!(*features & 1ULL << f->bit))
			continue;
		printf(json ? "%s\"%s\"" : "%s%s", !*any ? "" : json ? ", " : " ", f->name);
		*features &= ~(1ULL << f->bit);
		*any = true;
	}
}

/* By name, what is known, and the others as a number */
static void named_features(uint64_t features, uint32_t device)
{
	bool any = false;

	key("feature_names");
	if (json)
		putchar('[');
	features_in(of_rings, &features, &any);
	if (device == VIRTIO_ID_NET)
		features_in(of_net, &features, &any);
	if (features)
		printf(json ? "%s\"0x%" PRIx64 "\"" : "%s0x%" PRIx64,
		       !any ? "" : json ? ", " : " ", features);
	puts(json ? "]" : "");
}

static void queues(void)
{
	char name[32];
	uint32_t q, at;

	for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
		at = VM2VM_PCI_QUEUE(q);
		if (!reg32(at + VM2VM_PCI_QUEUE_STATE))
			continue;
#define QUEUE_FIELD(what, format, value) do {				\
		snprintf(name, sizeof(name), "queue%u." what, q);	\
		field(name, format, value);				\
	} while (0)
		QUEUE_FIELD("state", "%u", reg32(at + VM2VM_PCI_QUEUE_STATE));
		QUEUE_FIELD("size", "%u", reg32(at + VM2VM_PCI_QUEUE_SIZE));
		QUEUE_FIELD("next", "%u", reg32(at + VM2VM_PCI_QUEUE_NEXT));
		QUEUE_FIELD("desc", "0x%" PRIx64, reg64(at + VM2VM_PCI_QUEUE_DESC));
		QUEUE_FIELD("avail", "0x%" PRIx64, reg64(at + VM2VM_PCI_QUEUE_AVAIL));
		QUEUE_FIELD("used", "0x%" PRIx64, reg64(at + VM2VM_PCI_QUEUE_USED));
		QUEUE_FIELD("kicks", "%u", reg32(at + VM2VM_PCI_QUEUE_KICKS));
	}
}

int cmd_info(bool as_json)
{
	uint32_t state = reg32(VM2VM_PCI_STATE), type = reg32(VM2VM_PCI_DEVICE_TYPE);
	uint64_t features = reg64(VM2VM_PCI_FEATURES);

	json = as_json;
	begin_object();
	field("device", "%s", dev.name);
	field("magic", "0x%x", reg32(VM2VM_PCI_MAGIC));
	field("version", "%u", reg32(VM2VM_PCI_VERSION));
	field("state", "0x%x", state);
	field("connected", "%d", !!(state & VM2VM_PCI_STATE_CONNECTED));
	field("window", "%d", !!(state & VM2VM_PCI_STATE_WINDOW));
	field("driver_ok", "%d", !!(state & VM2VM_PCI_STATE_DRIVER_OK));
	field("domain", "%d", !!(state & VM2VM_PCI_STATE_DOMAIN));
	field("epoch", "%u", reg32(VM2VM_PCI_EPOCH));
	field("ack", "%u", reg32(VM2VM_PCI_ACK));
	field("ready", "%u", reg32(VM2VM_PCI_CONTROL) & VM2VM_PCI_CONTROL_READY);
	field("size", "0x%" PRIx64, dev.size);
	field("base", "0x%" PRIx64, dev.base);
	field("device_type", "%u", type);
	field("kind", "%s", kind(type));
	field("nr_queues", "%u", reg32(VM2VM_PCI_NR_QUEUES));
	field("device_status", "0x%x", reg32(VM2VM_PCI_DEVICE_STATUS));
	field("doorbell_offset", "0x%x", reg32(VM2VM_PCI_DOORBELL_OFFSET));
	field("features", "0x%" PRIx64, features);
	named_features(features, type);
	field("protocol_features", "0x%" PRIx64, reg64(VM2VM_PCI_PROTOCOL_FEATURES));
	field("inflight_size", "0x%" PRIx64, reg64(VM2VM_PCI_INFLIGHT_SIZE));
	field("peers", "%u", reg32(VM2VM_PCI_PEERS));
	field("unapproved", "%s", unapproved());
	/* With "fill" nobody counts */
	field("refused_reads", "%" PRIu64, reg64(VM2VM_PCI_REFUSED_READS));
	field("refused_writes", "%" PRIu64, reg64(VM2VM_PCI_REFUSED_WRITES));
	queues();
	if (json)
		puts("\n}");
	return 0;
}

/* All devices, by the numbers of their nodes */

static int by_number(const struct dirent **a, const struct dirent **b)
{
	return atoi((*a)->d_name) - atoi((*b)->d_name);
}

static int is_number(const struct dirent *e)
{
	return e->d_name[0] >= '0' && e->d_name[0] <= '9';
}

/* What the host calls it: any bytes, of which JSON and terminals take those of ASCII */
static const char *link_id(void)
{
	static char id[VM2VM_PCI_ID_SIZE + 1];
	unsigned int i;
	uint32_t word;

	for (i = 0; i < VM2VM_PCI_ID_SIZE; i += sizeof(word)) {
		word = reg32(VM2VM_PCI_ID + i);
		memcpy(id + i, &word, sizeof(word));
	}
	for (i = 0; id[i]; i++) {
		if (id[i] <= ' ' || id[i] > '~' || strchr("\"\\", id[i]))
			id[i] = '_';
	}
	return id;
}

static const char *state_name(void)
{
	uint32_t state = reg32(VM2VM_PCI_STATE);

	if (!(reg32(VM2VM_PCI_CONTROL) & VM2VM_PCI_CONTROL_READY))
		return "not-served";
	if (!(state & VM2VM_PCI_STATE_CONNECTED))
		return "no-peer";
	return state & VM2VM_PCI_STATE_WINDOW ? "running" : "connected";
}

static void list_one(const char *number)
{
	uint32_t q, nr_queues = 0, type;

	find_device(NULL, strtoull(number, NULL, 10));
	look_at_device();
	type = reg32(VM2VM_PCI_DEVICE_TYPE);
	for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++)
		nr_queues += !!reg32(VM2VM_PCI_QUEUE(q) + VM2VM_PCI_QUEUE_STATE);
	if (!json) {
		printf("%-15s %-13s %-11s %-6s %6u  %s\n", dev.node, dev.name, state_name(),
		       kind(type), nr_queues, link_id());
		return;
	}
	begin_object();
	field("node", "%s", dev.node);
	field("device", "%s", dev.name);
	field("id", "%s", link_id());
	field("state", "%s", state_name());
	field("kind", "%s", kind(type));
	field("queues", "%u", nr_queues);
	printf("\n}");
}

int cmd_list(bool as_json)
{
	struct dirent **entries;
	int i, n;

	json = as_json;
	n = scandir("/dev/vm2vm", &entries, is_number, by_number);
	if (n < 0)
		die("/dev/vm2vm: %m (is the module vm2vm loaded, and is there a device?)");
	puts(json ? "[" : "NODE            DEVICE        STATE       KIND   QUEUES  ID");
	for (i = 0; i < n; i++) {
		list_one(entries[i]->d_name);
		if (json)
			puts(i + 1 < n ? "," : "");
		free(entries[i]);
	}
	if (json)
		puts("]");
	free(entries);
	return 0;
}
