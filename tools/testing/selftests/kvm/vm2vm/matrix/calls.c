// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: the events that are calls of vm2vm and KVM.
 */
#include "events.h"

void fire_unmap(struct cell *c)
{
	uint64_t n = vm2vm_unmap(c->domain, PEER_IOVA, MATRIX_SIZE);

	CHECK(c, n == MATRIX_SIZE, "0x%lx bytes unmapped", n);
}

static void restore_map(struct cell *c)
{
	map_all(c);
}

static void fire_unlink(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
}

static void restore_link(struct cell *c)
{
	link_window(c);
}

static void fire_close(struct cell *c)
{
	MUST(close(c->domain));
}

static void restore_domain(struct cell *c)
{
	vm2vm_unlink(c->backend, PEER_SLOT);
	c->domain = vm2vm_create_domain(c->owner);
	map_all(c);
	link_window(c);
}

uint32_t log_flag(void)
{
	return getenv("VM2VM_LOG") ? KVM_MEM_LOG_DIRTY_PAGES : 0;
}

void set_slot(struct cell *c, uint32_t flags, uint64_t gpa, uint64_t size)
{
	if (size)
		flags |= log_flag();
	vm_set_user_memory_region(c->owner, 0, flags, gpa, size, c->r.mem);
}

static void fire_slot_delete(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, 0);
}

static void restore_slot(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, MATRIX_SIZE);
}

static void fire_slot_move(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA + 2 * MATRIX_SIZE, MATRIX_SIZE);
}

/* KVM does not let a memslot become read-only: it has to be made again. */
static void fire_slot_readonly(struct cell *c)
{
	int r = __vm_set_user_memory_region(c->owner, 0, KVM_MEM_READONLY, PEER_OWNER_GPA,
					    MATRIX_SIZE, c->r.mem);

	CHECK(c, r == -1 && errno == EINVAL, "a memslot becomes read-only: %d", r);
	set_slot(c, 0, PEER_OWNER_GPA, 0);
	set_slot(c, KVM_MEM_READONLY, PEER_OWNER_GPA, MATRIX_SIZE);
}

static void restore_slot_readonly(struct cell *c)
{
	set_slot(c, 0, PEER_OWNER_GPA, 0);
	restore_slot(c);
}

/* The page stays the owner's; fire_NAME() is the call. */
#define CALL(_name, _expect, _restore)					\
	{								\
		.name = #_name, .expect = _expect, .arm = arm_own,	\
		.fire = fire_##_name, .restore = _restore,		\
	}

const struct event events_calls[] = {
	CALL(unmap, SHOWS_HOLE, restore_map),
	CALL(unlink, SHOWS_HOLE, restore_link),
	CALL(close, SHOWS_HOLE, restore_domain),
	CALL(slot_delete, SHOWS_HOLE, restore_slot),
	CALL(slot_move, SHOWS_HOLE, restore_slot),
	CALL(slot_readonly, SHOWS_READONLY, restore_slot_readonly),
	{}
};
