// SPDX-License-Identifier: GPL-2.0
/* vm2vm_doorbell_test: three VMs, of which one rings another, and what came of it. */
#include "vm2vm_harness.h"
#include "vms.h"

void bell_vms_init(struct bell_vm *a, struct bell_vm *b, struct bell_vm *c, int *fd, int *stranger)
{
	bell_vm_init(a, true);
	bell_vm_init(b, true);
	bell_vm_init(c, true);
	bell_pair(a, b);
	*fd = bell_eventfd();
	*stranger = bell_eventfd();
	bell_irqfd(c, *stranger, BELL_GSI);
	/* Until it has run, the APIC is off. */
	bell_take(a);
	bell_take(b);
	bell_take(c);
}

void bell_vms_free(struct __test_metadata *_metadata, struct bell_vm *a, struct bell_vm *b,
		   struct bell_vm *c, int fd, int stranger)
{
	bell_take(c);
	EXPECT_EQ(0, c->ctl->total);
	EXPECT_EQ(0, bell_pending(stranger));
	bell_vm_free(a);
	bell_vm_free(b);
	bell_vm_free(c);
	close(fd);
	close(stranger);
}

bool bell_rang(struct bell_vm *b, unsigned int vector, uint64_t hits, struct bell_vm *a,
	       uint64_t exits)
{
	bool as_expected;

	bell_take(b);
	as_expected = b->ctl->hits[vector] == hits && a->exits == exits;
	if (!as_expected)
		printf("# %lu interrupts, not %lu, and %lu exits, not %lu\n",
		       b->ctl->hits[vector], hits, a->exits, exits);
	b->ctl->hits[vector] = 0;
	a->exits = 0;
	return as_expected;
}
