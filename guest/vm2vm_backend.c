// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vhost-user back-end by the registers of vm2vm-pci: registration, start and stop of its
 * queues, kicks and interrupts
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vm2vm_backend.h"
#include "vm2vm_dev.h"
#include "vm2vm_pci.h"
#include "vm2vm_ring.h"
#include "vm2vm_uapi.h"

/* A ring may look broken because the peer is being stopped, which we hear of later */
#define DOUBT_MS	1000

static uint32_t queue_reg(uint32_t q, uint32_t reg)
{
	return reg32(VM2VM_PCI_QUEUE(q) + reg);
}

static uint64_t queue_reg64(uint32_t q, uint32_t reg)
{
	return reg64(VM2VM_PCI_QUEUE(q) + reg);
}

static void write_config(struct backend *b)
{
	uint32_t i;

	for (i = 0; i < b->config_size; i++)
		dev.regs[VM2VM_PCI_CONFIG + i] = b->config[i];
}

void backend_config_changed(struct backend *b)
{
	write_config(b);
	set_reg32(VM2VM_PCI_CONFIG_CHANGED, 1);
}

static void offer(struct backend *b)
{
	/* One who was here before may have left it */
	set_reg32(VM2VM_PCI_CONTROL, 0);
	set_reg64(VM2VM_PCI_OFFER_FEATURES, b->features);
	set_reg64(VM2VM_PCI_OFFER_PROTOCOL, b->protocol);
	set_reg32(VM2VM_PCI_OFFER_DEVICE_ID, b->device_id);
	set_reg32(VM2VM_PCI_OFFER_QUEUES, b->nr_queues);
	set_reg32(VM2VM_PCI_OFFER_CONFIG_SIZE, b->config_size);
	write_config(b);
	if (reg64(VM2VM_PCI_OFFER_FEATURES) != b->features ||
	    reg32(VM2VM_PCI_OFFER_QUEUES) != b->nr_queues)
		die("%s: does not take what is registered", dev.name);
	set_reg32(VM2VM_PCI_CONTROL, VM2VM_PCI_CONTROL_READY);
}

void backend_tell(struct backend *b, uint32_t q)
{
	if (ring_must_tell(&b->rings[q]))
		ring_doorbell(q);
}

bool backend_batch(struct backend *b, uint32_t q, struct chain *c, backend_serve serve)
{
	struct ring *r = &b->rings[q];
	unsigned int n = 0;

	do {
		while (!b->done && n < BACKEND_BATCH && ring_pop(r, c)) {
			ring_push(r, c->head, serve(b, q, c));
			n++;
		}
	} while (!b->done && n < BACKEND_BATCH && ring_want_kick(r));
	if (n)
		backend_tell(b, q);
	return n == BACKEND_BATCH;
}

/* Queues */

static void stop_queue(struct backend *b, uint32_t q, bool drain)
{
	if (!b->running[q])
		return;
	b->ops->stop(b, q, drain && !ring_broken(&b->rings[q]));
	b->running[q] = false;
}

/*
 * Of those that run what has ended, ends.  If the run of the peer's device is the same as
 * before, those that are left go on, as nothing is being done with them at this moment.
 */
static void stop_queues(struct backend *b, bool same_run)
{
	uint32_t q, state;

	for (q = 0; q < b->nr_queues; q++) {
		if (!same_run) {
			stop_queue(b, q, false);
			b->known[q] = false;
		}
		state = queue_reg(q, VM2VM_PCI_QUEUE_STATE);
		if (state & VM2VM_PCI_QUEUE_STOPPING) {
			if (!b->known[q])
				b->rings[q].next = queue_reg(q, VM2VM_PCI_QUEUE_NEXT);
			stop_queue(b, q, true);
			set_reg32(VM2VM_PCI_QUEUE(q) + VM2VM_PCI_QUEUE_STOPPED, b->rings[q].next);
		} else if (!(state & VM2VM_PCI_QUEUE_ENABLED)) {
			stop_queue(b, q, false);
		}
	}
}

/*
 * Firmware that knows no IOMMU has its rings where nothing is mapped.  Who serves the queue
 * for us may take that for an error, and hang up.
 */
static const char *look_at_ring(const struct ring *r)
{
	uint16_t available = ring_avail_idx(r);

	return (uint16_t)(available - r->next) > r->size ? "is not mapped, or has a bad index" :
	       NULL;
}

/*
 * Kicks are ours, or somebody else's.  A CPU has some 200 interrupts for all devices, so they
 * are taken for queues that the peer's driver uses, not for all that it could.  A kick from
 * before then is in the eventfd of QEMU's, and comes with the first unmasking.
 */
static const char *open_queue(struct backend *b, uint32_t q)
{
	if (b->kicks[q] >= 0)
		return NULL;
	b->kicks[q] = new_eventfd();
	if (!set_queue_fd(VM2VM_SET_KICK, q, b->kicks[q])) {
		close(b->kicks[q]);
		b->kicks[q] = -1;
		return "the kernel has no interrupt for it";
	}
	if (b->ops->kick) {
		b->events[VM2VM_PCI_VECTOR_QUEUE(q)].fd = b->kicks[q];
		return NULL;
	}
	b->calls[q] = new_eventfd();
	set_queue_fd(VM2VM_SET_CALL, q, b->calls[q]);
	return NULL;
}

static void close_queue(struct backend *b, uint32_t q)
{
	if (b->kicks[q] < 0)
		return;
	set_queue_fd(VM2VM_SET_KICK, q, -1);
	close(b->kicks[q]);
	if (b->ops->kick)
		return;
	set_queue_fd(VM2VM_SET_CALL, q, -1);
	close(b->calls[q]);
}

static void start_queue(struct backend *b, uint32_t q)
{
	struct ring *r = &b->rings[q];
	const char *wrong;

	r->index = q;
	r->features = b->taken;
	r->size = queue_reg(q, VM2VM_PCI_QUEUE_SIZE);
	r->desc = queue_reg64(q, VM2VM_PCI_QUEUE_DESC);
	r->avail = queue_reg64(q, VM2VM_PCI_QUEUE_AVAIL);
	r->used = queue_reg64(q, VM2VM_PCI_QUEUE_USED);
	/* Of a queue that rested for a while in the same run we know better */
	wrong = ring_load(r, b->known[q] ? r->next : queue_reg(q, VM2VM_PCI_QUEUE_NEXT));
	if (!wrong && !b->ops->kick)
		wrong = look_at_ring(r);
	if (!wrong)
		wrong = open_queue(b, q);
	if (wrong)
		ring_break(r, "%s", wrong);
	b->known[q] = true;
	b->running[q] = true;
	b->more[q] = b->ops->kick;
	b->broken_since[q] = 0;
	if (!ring_broken(r))
		b->ops->start(b, q);
	/* Who served it before us may not have told the driver of what it used */
	ring_doorbell(q);
}

static void start_queues(struct backend *b)
{
	uint32_t q;

	if (!(reg32(VM2VM_PCI_STATE) & VM2VM_PCI_STATE_WINDOW))
		return;
	b->taken = reg64(VM2VM_PCI_FEATURES);
	for (q = 0; q < b->nr_queues; q++) {
		if (!b->running[q] &&
		    queue_reg(q, VM2VM_PCI_QUEUE_STATE) == VM2VM_PCI_QUEUE_ENABLED)
			start_queue(b, q);
	}
}

/* Something in the registers has changed. */
static void update(struct backend *b)
{
	bool same_run;
	uint32_t epoch;

	/* The device was reset: the guest has slept */
	if (!(reg32(VM2VM_PCI_CONTROL) & VM2VM_PCI_CONTROL_READY))
		offer(b);
	do {
		epoch = reg32(VM2VM_PCI_EPOCH);
		/* A new domain is not shown before we have acknowledged it */
		same_run = epoch == b->epoch || reg32(VM2VM_PCI_STATE) & VM2VM_PCI_STATE_WINDOW;
		if (b->deaf && epoch != b->epoch && !same_run && b->runs)
			return;
		stop_queues(b, same_run);
		if (epoch != b->epoch) {
			set_reg32(VM2VM_PCI_ACK, epoch);
			b->epoch = epoch;
		}
		start_queues(b);
	} while (reg32(VM2VM_PCI_EPOCH) != epoch);
	if (b->ops->update)
		b->ops->update(b);
	b->runs |= !!(reg32(VM2VM_PCI_STATE) & VM2VM_PCI_STATE_WINDOW);
}

/* Say what is wrong with a ring, unless it is only that the peer is gone; is one in doubt? */
static bool judge(struct backend *b)
{
	int64_t now = now_ms();
	bool doubt = false;
	uint32_t q;

	for (q = 0; q < b->nr_queues; q++) {
		if (!b->running[q] || !ring_broken(&b->rings[q]) || b->broken_since[q] < 0)
			continue;
		if (!b->broken_since[q])
			b->broken_since[q] = now;
		if (now - b->broken_since[q] < DOUBT_MS) {
			doubt = true;
			continue;
		}
		b->broken_since[q] = -1;
		if (reg32(VM2VM_PCI_EPOCH) == b->epoch &&
		    reg32(VM2VM_PCI_STATE) & VM2VM_PCI_STATE_WINDOW)
			fprintf(stderr, "vm2vm: queue %u: %s\n", q, b->rings[q].wrong);
	}
	return doubt;
}

/* The program's files come after the vectors; those that are not to be waited for are -1 */
static void handle(struct backend *b)
{
	unsigned int i, vectors = VM2VM_PCI_VECTOR_QUEUE(b->nr_queues);
	uint32_t q;

	if (take_event(&b->events[VM2VM_PCI_VECTOR_STATE]))
		update(b);
	for (q = 0; q < b->nr_queues && b->ops->kick; q++) {
		b->more[q] |= take_event(&b->events[VM2VM_PCI_VECTOR_QUEUE(q)]) > 0;
		b->more[q] = b->more[q] && backend_serves(b, q) && b->ops->kick(b, q);
	}
	for (i = 0; i < b->nr_files; i++) {
		if (b->events[vectors + i].revents)
			b->ops->file(b, i);
	}
}

/* How long nothing has to be done if nothing happens: until when */
static int64_t idle_until(struct backend *b, int64_t deadline)
{
	int ms = b->ops->tick ? b->ops->tick(b) : -1;
	int64_t soon;
	uint32_t q;

	if (judge(b) && (ms < 0 || ms > DOUBT_MS))
		ms = DOUBT_MS;
	for (q = 0; q < b->nr_queues; q++) {
		if (b->more[q])
			ms = 0;
	}
	soon = now_ms() + ms;
	return ms >= 0 && (deadline < 0 || soon < deadline) ? soon : deadline;
}

void backend_run(struct backend *b, int64_t deadline)
{
	unsigned int i, vectors = VM2VM_PCI_VECTOR_QUEUE(b->nr_queues);
	bool wanted[NR_VECTORS] = { [VM2VM_PCI_VECTOR_STATE] = true };
	int64_t until;

	open_vectors(vectors, wanted, b->events);
	for (i = 0; i < b->nr_queues; i++)
		b->kicks[i] = -1;
	b->epoch = 0;
	offer(b);
	say_ready();
	update(b);
	while (!b->done && (deadline < 0 || now_ms() < deadline)) {
		until = idle_until(b, deadline);
		for (i = 0; i < b->nr_files; i++)
			b->events[vectors + i] = (struct pollfd){
				.fd = b->files[i],
				.events = POLLIN,
			};
		wait_events(b->events, vectors + b->nr_files, until);
		handle(b);
	}
	for (i = 0; i < b->nr_queues; i++)
		stop_queue(b, i, true);
	set_reg32(VM2VM_PCI_CONTROL, 0);
	for (i = 0; i < b->nr_queues; i++)
		close_queue(b, i);
}
