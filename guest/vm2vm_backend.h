/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A vhost-user back-end by the registers of vm2vm-pci: registration, start and stop of its
 * queues, kicks and interrupts
 *
 * The device's window shows a new domain of the peer's only once we have acknowledged the
 * epoch, which we do when we do nothing any more by what was read before: then nothing
 * that was begun for an earlier run lands in the peer's memory.
 */
#ifndef VM2VM_BACKEND_H
#define VM2VM_BACKEND_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm2vm_dev.h"
#include "vm2vm_ring.h"

#define BACKEND_CONFIG_SIZE	256
#define BACKEND_FILES		16
#define BACKEND_BATCH		16

struct backend;

struct backend_ops {
	/* The ring is loaded; ring_break() it if it cannot be served. */
	void (*start)(struct backend *b, uint32_t q);
	/*
	 * It ends.  With @drain the peer's memory is there still, and what was taken is to
	 * be given back; without, it is to be forgotten.
	 */
	void (*stop)(struct backend *b, uint32_t q, bool drain);
	/*
	 * There may be something new in it.  It does BACKEND_BATCH at most, so that the
	 * others, and the end, do not have to wait; true: there is more.  NULL: somebody else
	 * serves the queues, by the eventfds in @kicks and @calls.
	 */
	bool (*kick)(struct backend *b, uint32_t q);
	/* One of the files can be read. */
	void (*file)(struct backend *b, unsigned int i);
	/* Something in the registers may have changed.  May be NULL. */
	void (*update)(struct backend *b);
	/* Before each wait: for how many milliseconds at most, or -1. May be NULL. */
	int (*tick)(struct backend *b);
};

struct backend {
	const struct backend_ops *ops;
	void *data;
	/* What is registered */
	uint64_t features, protocol;
	uint32_t device_id, nr_queues, config_size;
	uint8_t config[BACKEND_CONFIG_SIZE];
	/* More to be waited for */
	int files[BACKEND_FILES];
	unsigned int nr_files;
	/* It ends itself by this */
	bool done;
	/* For tests: no run of the peer's device is acknowledged but the first */
	bool deaf;

	/* Ours */
	uint32_t epoch, runs;
	uint64_t taken;		/* features that the driver has taken */
	struct ring rings[VM2VM_PCI_MAX_QUEUES];
	bool running[VM2VM_PCI_MAX_QUEUES];
	bool more[VM2VM_PCI_MAX_QUEUES];
	bool known[VM2VM_PCI_MAX_QUEUES];	/* where it is, in this run */
	int kicks[VM2VM_PCI_MAX_QUEUES], calls[VM2VM_PCI_MAX_QUEUES];
	int64_t broken_since[VM2VM_PCI_MAX_QUEUES];	/* ms; -1: it was said */
	struct pollfd events[NR_VECTORS + BACKEND_FILES];
};

/* Serve until the deadline, or until @done. */
void backend_run(struct backend *b, int64_t deadline);
/* An interrupt of the peer's driver, if it wants one */
void backend_tell(struct backend *b, uint32_t q);
/* What a request is served by: how many bytes were written to it */
typedef uint32_t (*backend_serve)(struct backend *b, uint32_t q, struct chain *c);
/* What a kick is about, for one that serves what it takes at once; true: there is more. */
bool backend_batch(struct backend *b, uint32_t q, struct chain *c, backend_serve serve);
/* @config is another one, which the peer's driver is told. */
void backend_config_changed(struct backend *b);
static inline bool backend_serves(const struct backend *b, uint32_t q)
{
	return b->running[q] && !ring_broken(&b->rings[q]);
}

#endif /* VM2VM_BACKEND_H */
