// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: a vCPU that stays inside a view, as inside.h declares it.
 */
#include <sys/syscall.h>

#include "inside.h"

#define INSIDE_SYNC_VIEW	7	/* GUEST_SYNC(): look at the view */

static struct inside_loop inside_loop;

static void inside_guest_pass(uint64_t *page)
{
	struct spinner_loop *loop = &inside_loop.loop;
	uint64_t gone, val;

	gone = READ_ONCE(inside_loop.gone);
	WRITE_ONCE(page[SPINNER_WRITE], loop->count);
	val = READ_ONCE(page[SPINNER_READ]);
	if (val == SPINNER_CANARY)
		loop->canary++;
	if (val == SPINNER_OLD && gone)
		inside_loop.stale++;
	if (val == VIEW_HOLE)
		inside_loop.holes++;
	WRITE_ONCE(loop->last, val);
	WRITE_ONCE(loop->count, loop->count + 1);
}

static void inside_guest(void)
{
	uint64_t *page = (uint64_t *)VIEW_GPA(1);

	peer_guest_interruptible();
	while (!READ_ONCE(inside_loop.loop.stop)) {
		if (READ_ONCE(inside_loop.enter)) {
			vm2vm_view_enter(1);
			WRITE_ONCE(inside_loop.enter, 0);
		}
		if (READ_ONCE(inside_loop.look)) {
			GUEST_SYNC(INSIDE_SYNC_VIEW);
			WRITE_ONCE(inside_loop.look, 0);
		}
		inside_guest_pass(page);
		if (READ_ONCE(inside_loop.leave)) {
			vm2vm_view_leave();
			vm2vm_view_enter(1);
		}
	}
	GUEST_DONE();
}

static void *inside_vcpu(void *arg)
{
	struct inside *s = arg;
	struct kvm_vcpu *vcpu = s->w.cpu[0].vcpu;
	struct ucall uc;
	uint64_t cmd;

	WRITE_ONCE(s->tid, syscall(SYS_gettid));
	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_MMIO) {
			view_mmio(&s->w.cpu[0]);
			continue;
		}
		cmd = get_ucall(vcpu, &uc);
		if (cmd != UCALL_SYNC)
			break;
		WRITE_ONCE(s->view, view_get(&s->w.cpu[0]));
	}
	TEST_ASSERT(cmd == UCALL_DONE, "exit reason %u (%s)", vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
	return NULL;
}

void inside_init(struct inside *s)
{
	struct view_owner *o = &s->w.owner[0];

	memset(s, 0, sizeof(*s));
	view_init(&s->w, 1);
	s->memfd = spinner_memfd(s->page);
	s->mem = spinner_map_page(s->memfd, 0, NULL);

	view_owner_free(o);
	o->vm = vm_create_barebones();
	vm_set_user_memory_region(o->vm, 0, 0, PEER_OWNER_GPA, 4096, s->mem);
	o->domain = vm2vm_create_domain(o->vm);
	o->mem = s->mem;

	vcpu_arch_set_entry_point(s->w.cpu[0].vcpu, inside_guest);
	view_map_window(&s->w, 1);
	spinner_no_fork(s->w.vm);
	s->in = addr_gva2hva(s->w.vm, (uintptr_t)&inside_loop);
	s->loop = &s->in->loop;
}

void inside_start(struct inside *s)
{
	WRITE_ONCE(s->in->enter, 1);
	pthread_create(&s->thread, NULL, inside_vcpu, s);
}

void inside_free(struct inside *s)
{
	if (s->thread) {
		WRITE_ONCE(s->loop->stop, 1);
		pthread_join(s->thread, NULL);
	}
	view_free(&s->w);
}

void inside_map(struct inside *s)
{
	vm2vm_map(s->w.owner[0].domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

void inside_link(struct inside *s, int domain)
{
	int r = __view_link(&s->w, 1, domain, PEER_IOVA, 4096, 0);

	TEST_ASSERT(!r, "KVM_VM2VM_LINK: %s", strerror(-r));
}

void inside_share(struct inside *s)
{
	inside_map(s);
	inside_link(s, s->w.owner[0].domain);
	inside_start(s);
}

uint32_t inside_view(struct inside *s)
{
	WRITE_ONCE(s->view, ~0u);
	WRITE_ONCE(s->in->look, 1);
	spinner_wait_clear(&s->in->look);
	return READ_ONCE(s->view);
}

void inside_allow(struct inside *s)
{
	WRITE_ONCE(s->in->gone, 0);
	spinner_wait(s->loop, 2);
}

void inside_begin(struct inside *s, uint64_t *page)
{
	WRITE_ONCE(page[SPINNER_READ], SPINNER_OLD);
	WRITE_ONCE(s->in->enter, 1);
	spinner_wait_clear(&s->in->enter);
	spinner_begin(s->loop, page);
}

void inside_end(struct inside *s, uint64_t *page, uint64_t expect, unsigned int trial)
{
	WRITE_ONCE(s->in->gone, 1);
	spinner_check(s->loop, page, expect, trial);
	TEST_ASSERT(!READ_ONCE(s->in->stale), "trial %u: the page was seen", trial);
	/* The next trial may approve it before anything else. */
	inside_allow(s);
	WRITE_ONCE(page[SPINNER_READ], SPINNER_OLD);
}
