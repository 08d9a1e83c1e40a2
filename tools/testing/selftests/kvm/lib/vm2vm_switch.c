// SPDX-License-Identifier: GPL-2.0
/*
 * A switch in the backend's guest: what include/vm2vm_switch.h declares.
 */
#include "vm2vm_switch.h"

/* Of the backend, gpa and gva */
#define SWITCH_OWN	0x60000000ul
#define SWITCH_OWN_SLOT	90	/* below those of views */

struct switch_job switch_job;

/* A frame with its length, which is looked at once; returns that, or 0 */
static uint64_t switch_take(void *to, const uint8_t *slot)
{
	uint64_t length = READ_ONCE(*(uint64_t *)slot);

	if (!length || length > SWITCH_FRAME) {
		switch_job.bad++;
		return 0;
	}
	WRITE_ONCE(*(uint64_t *)to, length);
	view_guest_copy(to + 8, slot + 8, (length + 7) / 8);
	return length;
}

static void switch_plain(uint64_t n)
{
	struct switch_port *from = (void *)switch_job.from, *to = (void *)switch_job.to;
	uint64_t taken = from->taken, received = to->received, i;

	for (i = 0; i < n; i++) {
		if (switch_take(to->in[received % SWITCH_SLOTS],
				from->out[(taken + i) % SWITCH_SLOTS]))
			received++;
	}
	WRITE_ONCE(from->taken, taken + n);
	WRITE_ONCE(to->received, received);
}

static void switch_views(uint64_t n)
{
	struct switch_port *from = (void *)switch_job.from, *to = (void *)switch_job.to;
	uint8_t (*own)[SWITCH_SLOT] = (void *)switch_job.own;
	uint64_t taken, received, kept = 0, i;

	vm2vm_view_enter(switch_job.from_view);
	taken = from->taken;
	for (i = 0; i < n; i++) {
		if (switch_take(own[kept], from->out[(taken + i) % SWITCH_SLOTS]))
			kept++;
	}
	WRITE_ONCE(from->taken, taken + n);

	vm2vm_view_enter(switch_job.to_view);
	received = to->received;
	for (i = 0; i < kept; i++)
		view_guest_copy(to->in[(received + i) % SWITCH_SLOTS], own[i],
				(*(uint64_t *)own[i] + 15) / 8);
	WRITE_ONCE(to->received, received + kept);
	/* As a bug in what is done for this owner would */
	if (switch_job.stray && READ_ONCE(from->sent) != VIEW_HOLE)
		switch_job.strays++;
	vm2vm_view_leave();
}

void switch_guest(void)
{
	uint64_t left, n;

	for (left = switch_job.frames; left; left -= n) {
		n = min(left, switch_job.batch);
		if (switch_job.from_view)
			switch_views(n);
		else
			switch_plain(n);
	}
}

uint64_t switch_add_memory(struct kvm_vm *vm)
{
	size_t size = SWITCH_BATCH * SWITCH_SLOT;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, SWITCH_OWN, SWITCH_OWN_SLOT,
				    size / vm->page_size, 0);
	virt_map(vm, SWITCH_OWN, SWITCH_OWN, size / vm->page_size);
	return SWITCH_OWN;
}

struct switch_port *switch_port_init(struct view_owner *o, uint64_t frames, uint64_t length)
{
	struct switch_port *port = o->mem;
	uint64_t i, k;

	TEST_ASSERT(o->size >= sizeof(*port), "an owner with %zu bytes", o->size);
	memset(port, 0, sizeof(*port));
	for (i = 0; i < SWITCH_SLOTS; i++) {
		*(uint64_t *)port->out[i] = length;
		for (k = 8; k < SWITCH_SLOT; k++)
			port->out[i][k] = k * 7 + i * 31 + 1;
	}
	port->sent = frames;
	return port;
}
