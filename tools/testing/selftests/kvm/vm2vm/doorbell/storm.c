// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: everything that a ring passes is torn down and put back, at
 * random, while guests ring.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "doorbell.h"

#define STORM_FDS	8

/**
 * struct storm - A rings B by an array of doorbells
 * @a: rings all the time
 * @b: listens all the time
 * @c: has the same interrupts, of eventfds of its own
 * @fds: what is rung
 * @strangers: C's
 * @irqfd: whether B has an irqfd on which
 * @at: where the doorbell is
 * @doorbell: whether it is
 * @routed: whether B's GSIs have routes
 * @random: state
 * @exits: A's writes without a doorbell, of VMs that are gone
 */
struct storm {
	struct bell_vm a, b, c;
	int fds[STORM_FDS];
	int strangers[STORM_FDS];
	bool irqfd[STORM_FDS];
	struct bell_at at;
	bool doorbell;
	bool routed;
	uint64_t random;
	uint64_t exits;
};

static unsigned int storm_random(struct storm *s, unsigned int n)
{
	s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
	return (s->random >> 33) % n;
}

static void storm_new_a(struct storm *s)
{
	bell_vm_init(&s->a, true);
	bell_map_ctl(&s->a, 101, BELL_PEER, s->c.ctl);
	s->doorbell = false;
	bell_tell(&s->a, BELL_RING, s->at, 0, 1, -1ull);
	s->a.ctl->mask = STORM_FDS - 1;
	bell_start(&s->a);
}

static void storm_end_a(struct storm *s)
{
	WRITE_ONCE(s->a.ctl->count, 0);
	bell_join(&s->a);
	s->exits += s->a.exits;
	bell_vm_free(&s->a);
}

/* B's irqfds may be there before it has run, and rung. */
static void storm_new_b(struct storm *s)
{
	unsigned int i;

	bell_vm_init(&s->b, true);
	bell_map_ctl(&s->b, 101, BELL_PEER, s->c.ctl);
	s->routed = true;
	for (i = 0; i < STORM_FDS; i++) {
		s->irqfd[i] = storm_random(s, 2);
		if (s->irqfd[i])
			bell_irqfd(&s->b, s->fds[i], BELL_GSI + i);
	}
	bell_listen(&s->b, BELL_HALT);
}

static void storm_end_b(struct storm *s)
{
	bell_stop(&s->b);
	bell_vm_free(&s->b);
	memset(s->irqfd, 0, sizeof(s->irqfd));
}

static void storm_toggle_irqfd(struct storm *s, unsigned int i)
{
	if (s->irqfd[i])
		bell_irqfd_deassign(&s->b, s->fds[i], BELL_GSI + i);
	else
		bell_irqfd(&s->b, s->fds[i], BELL_GSI + i);
	s->irqfd[i] = !s->irqfd[i];
}

static void storm_toggle_doorbell(struct storm *s)
{
	uint32_t flags = bell_flags(s->at);
	int r;

	if (s->doorbell)
		flags |= KVM_VM2VM_DOORBELL_DEASSIGN;
	r = __vm2vm_doorbell_array(s->a.vm, s->at.addr, s->at.len, s->fds, STORM_FDS, flags);
	TEST_ASSERT(!r, "KVM_VM2VM_DOORBELL, flags %x: %s", flags, strerror(-r));
	s->doorbell = !s->doorbell;
}

/*
 * Close an eventfd that is rung, and listened to.  Its doorbell cannot be named any
 * more, so the guest goes on at another address.
 */
static void storm_close(struct storm *s, unsigned int i)
{
	close(s->fds[i]);
	s->irqfd[i] = false;
	s->fds[i] = bell_eventfd();
	if (!s->doorbell)
		return;
	s->doorbell = false;
	s->at.addr += 4;
	if (s->at.addr > 0xf000)
		s->at.addr = BELL_PORT;
	/* Where the VM has no doorbell that was left behind */
	if (s->at.addr == BELL_PORT) {
		storm_end_a(s);
		storm_new_a(s);
	}
	WRITE_ONCE(s->a.ctl->addr, s->at.addr);
}

static void storm_toggle_routes(struct storm *s)
{
	struct kvm_irq_routing none = {};

	if (s->routed)
		vm_ioctl(s->b.vm, KVM_SET_GSI_ROUTING, &none);
	else
		bell_set_routing(&s->b);
	s->routed = !s->routed;
}

static void storm_round(struct storm *s)
{
	unsigned int what = storm_random(s, 256);

	if (what < 110) {
		storm_toggle_irqfd(s, storm_random(s, STORM_FDS));
	} else if (what < 180) {
		storm_toggle_doorbell(s);
	} else if (what < 220) {
		storm_close(s, storm_random(s, STORM_FDS));
	} else if (what < 244) {
		storm_toggle_routes(s);
	} else if (what < 252) {
		storm_end_b(s);
		storm_new_b(s);
	} else {
		storm_end_a(s);
		storm_new_a(s);
	}
	if (!storm_random(s, 4))
		usleep(storm_random(s, 200));
}

TEST_F_TIMEOUT(bell, storm, 1800)
{
	unsigned int rounds = vm2vm_trials(1000), i;
	struct storm *s = calloc(1, sizeof(*s));
	uint64_t total;

	ASSERT_NE(NULL, s);
	s->random = 1;
	s->at = (struct bell_at) { true, BELL_PORT, 4 };
	bell_vm_init(&s->c, true);
	bell_map_ctl(&s->c, 101, BELL_PEER, s->c.ctl);
	bell_take(&s->c);
	for (i = 0; i < STORM_FDS; i++) {
		s->fds[i] = bell_eventfd();
		s->strangers[i] = bell_eventfd();
		bell_irqfd(&s->c, s->strangers[i], BELL_GSI + i);
	}
	bell_listen(&s->c, BELL_HALT);
	storm_new_b(s);
	storm_new_a(s);
	for (i = 0; i < rounds; i++)
		storm_round(s);

	/* Whatever it was, it all works again. */
	if (!s->routed)
		storm_toggle_routes(s);
	for (i = 0; i < STORM_FDS; i++)
		if (!s->irqfd[i])
			storm_toggle_irqfd(s, i);
	if (!s->doorbell)
		storm_toggle_doorbell(s);
	for (i = 0; i < STORM_FDS; i++) {
		total = READ_ONCE(s->b.ctl->hits[i]);
		while (READ_ONCE(s->b.ctl->hits[i]) < total + 10)
			usleep(1000);
	}
	TH_LOG("%u rounds, %lu rings of the last VM, %lu interrupts of the last", rounds,
	       s->a.ctl->sent, s->b.ctl->total);
	storm_end_a(s);
	storm_end_b(s);
	bell_stop(&s->c);
	EXPECT_EQ(0, s->c.ctl->total);
	bell_vm_free(&s->c);
	for (i = 0; i < STORM_FDS; i++) {
		close(s->fds[i]);
		close(s->strangers[i]);
	}
	free(s);
}

/* A process of its own, with a VM that listens on @fd, or that rings it; until killed. */
static void storm_victim(int fd, struct bell_at at, bool rings, struct bell_ctl *ctl)
{
	struct bell_vm v;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bell_vm_init_ctl(&v, true, ctl);
	bell_map_ctl(&v, 101, BELL_PEER, v.ctl);
	if (rings) {
		bell_doorbell(&v, at, at.len, fd);
		bell_ring(&v, at, 0, 0, -1ull);
	} else {
		bell_irqfd(&v, fd, BELL_GSI);
		bell_tell(&v, BELL_HALT, at, 0, 0, 0);
		bell_run(&v);
	}
	_exit(1);
}

/* Wait until the guest has taken all that has come: a vector that is lower comes last. */
static void storm_wait_taken(struct bell_vm *v)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = BELL_VECTOR };
	uint64_t hits = READ_ONCE(v->ctl->hits[0]);

	TEST_ASSERT(__vm_ioctl(v->vm, KVM_SIGNAL_MSI, &msi) > 0, "KVM_SIGNAL_MSI");
	while (READ_ONCE(v->ctl->hits[0]) == hits)
		usleep(1000);
}

/*
 * SIGKILL of the peer, at any moment of its life: a ring of the one that lives is
 * signalled then, and what the dead one has rung is all there is.
 */
TEST_F_TIMEOUT(bell, killed, 600)
{
	unsigned int rounds = vm2vm_trials(1000) / 5 + 2, i, direct = 0;
	struct bell_vm *a = &self->a, *b = &self->b;
	const struct bell_at at = { true, BELL_PORT, 2 };
	struct bell_ctl *ctl = bell_new_ctl();
	int fd = bell_eventfd(), status;
	uint64_t total;
	pid_t pid;

	bell_doorbell(a, at, at.len, self->fd);
	bell_tell(a, BELL_RING, at, 0, 0, -1ull);
	bell_start(a);
	bell_listen(b, BELL_HALT);
	for (i = 0; i < rounds; i++) {
		bool rings = i % 2;

		if (rings)
			bell_irqfd(b, fd, BELL_GSI + 1);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			storm_victim(rings ? fd : self->fd, at, rings, ctl);
		/* The first of each kind live until they have done it. */
		while (i == 0 && !READ_ONCE(ctl->total))
			usleep(1000);
		while (i == 1 && !READ_ONCE(b->ctl->hits[1]))
			usleep(1000);
		usleep(1000 + i * 7919 % 60000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		if (rings) {
			storm_wait_taken(b);
			total = READ_ONCE(b->ctl->hits[1]);
			direct += !!total;
			bell_irqfd_deassign(b, fd, BELL_GSI + 1);
			usleep(1000);
			EXPECT_EQ(total, READ_ONCE(b->ctl->hits[1]));
		}
		/* Once the VM has gone */
		bell_pending(self->fd);
		for (status = 0; status < 60000 && !bell_pending(self->fd); status++)
			usleep(1000);
		EXPECT_GT(60000, status);
	}
	EXPECT_LT(0, direct);
	WRITE_ONCE(a->ctl->count, 0);
	bell_join(a);
	bell_stop(b);
	munmap(ctl, 4096);
	close(fd);
}
