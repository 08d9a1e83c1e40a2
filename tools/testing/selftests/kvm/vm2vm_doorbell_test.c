// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: doorbells (KVM_VM2VM_DOORBELL).
 *
 * VM A rings VM B, or each the other; C has the same interrupts and nobody rings it.
 *
 * VM2VM_TRIALS in the environment is the number of trials of what is repeated, in
 * thousands where it is rings; 1000 by default.
 */
#include "vm2vm_harness.h"
#include "vm2vm_doorbell.h"

FIXTURE(bell)
{
	struct bell_vm a, b, c;
	int fd;
	int stranger;
};

FIXTURE_SETUP(bell)
{
	bell_vm_init(&self->a, true);
	bell_vm_init(&self->b, true);
	bell_vm_init(&self->c, true);
	bell_pair(&self->a, &self->b);
	self->fd = bell_eventfd();
	self->stranger = bell_eventfd();
	bell_irqfd(&self->c, self->stranger, BELL_GSI);
	/* Until it has run, the APIC is off. */
	bell_take(&self->a);
	bell_take(&self->b);
	bell_take(&self->c);
}

FIXTURE_TEARDOWN(bell)
{
	bell_take(&self->c);
	EXPECT_EQ(0, self->c.ctl->total);
	EXPECT_EQ(0, bell_pending(self->stranger));
	bell_vm_free(&self->a);
	bell_vm_free(&self->b);
	bell_vm_free(&self->c);
	close(self->fd);
	close(self->stranger);
}

static const struct bell_at ats[] = {
	{ true, BELL_PORT, 1 },
	{ true, BELL_PORT + 2, 2 },
	{ true, 0xfffc, 4 },
	{ true, BELL_PORT + 5, 4 },
	{ false, BELL_MMIO + 0x10, 1 },
	{ false, BELL_MMIO + 0x22, 2 },
	{ false, BELL_MMIO + 0x100, 4 },
	{ false, BELL_MMIO + 0x201, 4 },
	{ false, BELL_MMIO + 0x308, 8 },
};

#include "vm2vm_doorbell_abi.h"
#include "vm2vm_doorbell_match.h"
#include "vm2vm_doorbell_routes.h"
#include "vm2vm_doorbell_traffic.h"
#include "vm2vm_doorbell_storm.h"

TEST_HARNESS_MAIN
