// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: two VMs ring the same edge at the same time.  A pin is set and
 * cleared for each ring, and if the two overlap, one of them is no edge.
 */
#include "vm2vm_doorbell.h"
#include "vm2vm_harness.h"

#define EDGE_PIN	20

FIXTURE(edge)
{
	struct bell_vm ringers[2];
	struct bell_vm listener;
	int fd;
};

FIXTURE_VARIANT(edge)
{
	bool pin;
};

FIXTURE_VARIANT_ADD(edge, pin) { true };
FIXTURE_VARIANT_ADD(edge, msi) { false };

FIXTURE_SETUP(edge)
{
	struct bell_vm *b = &self->listener;
	const struct bell_at at = { true, BELL_PORT, 4 };
	unsigned int i;

	bell_vm_init(b, true);
	self->fd = bell_eventfd();
	for (i = 0; i < 2; i++) {
		bell_vm_init(&self->ringers[i], true);
		bell_map_ctl(&self->ringers[i], 101, BELL_PEER, b->ctl);
		self->ringers[i].ctl->id = i;
		bell_doorbell(&self->ringers[i], at, at.len, self->fd);
		bell_take(&self->ringers[i]);
	}
	bell_map_ctl(b, 101, BELL_PEER, self->ringers[0].ctl);
	if (variant->pin) {
		bell_add_pin(b, EDGE_PIN, KVM_IRQCHIP_IOAPIC, EDGE_PIN);
		bell_set_routing(b);
		bell_set_pin(b, EDGE_PIN, 0, false, false);
	}
	bell_irqfd(b, self->fd, variant->pin ? EDGE_PIN : BELL_GSI);
	bell_take(b);
}

FIXTURE_TEARDOWN(edge)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		bell_vm_free(&self->ringers[i]);
	bell_vm_free(&self->listener);
	close(self->fd);
}

/*
 * Round by round: a handler begins after each ring.  If one were lost, the other VM's
 * next would not help, as that waits, too.
 */
TEST_F_TIMEOUT(edge, together, 900)
{
	const struct bell_at at = { true, BELL_PORT, 4 };
	uint64_t n = (uint64_t)vm2vm_trials(1000) * 5;
	struct bell_vm *b = &self->listener;
	unsigned int i;

	bell_listen(b, BELL_HALT);
	for (i = 0; i < 2; i++)
		bell_tell(&self->ringers[i], BELL_TOGETHER, at, 0, 0, n);
	for (i = 0; i < 2; i++)
		bell_start(&self->ringers[i]);
	for (i = 0; i < 2; i++)
		bell_join(&self->ringers[i]);
	bell_stop(b);
	bell_take(b);
	for (i = 0; i < 2; i++) {
		EXPECT_FALSE(self->ringers[i].ctl->lost);
		EXPECT_EQ(n, self->ringers[i].ctl->sent);
		EXPECT_EQ(0, self->ringers[i].exits);
	}
	EXPECT_LE(n, b->ctl->total);
	EXPECT_GE(2 * n, b->ctl->total);
	EXPECT_EQ(0, bell_pending(self->fd));
	TH_LOG("%lu rounds, %lu interrupts", n, b->ctl->total);
}
