// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: revocation, with the backend's vCPU in its guest: the ways to take a page
 * away, each tried many times.  How a trial goes is in include/vm2vm_spin.h.
 *
 * VM2VM_TRIALS in the environment is the number of trials of each test, 1000 by
 * default.
 */
#include "vm2vm_harness.h"
#include "vm2vm_spin.h"

FIXTURE(revoke)
{
	struct peer p;
	struct spinner s;
};

FIXTURE_SETUP(revoke)
{
	struct peer *p = &self->p;

	peer_init(p, 4096);
	vcpu_arch_set_entry_point(p->vcpu, spinner_guest);
	peer_map_window(p, PEER_WINDOW, 4096);
	spinner_no_fork(p->backend);
	spinner_start(&self->s, p, PEER_WINDOW, vm2vm_trials(1000));
}

FIXTURE_TEARDOWN(revoke)
{
	spinner_stop(&self->s);
	peer_free(&self->p);
}

TEST_F_TIMEOUT(revoke, unmap, 600)
{
	spinner_try_unmap(&self->s);
}

TEST_F_TIMEOUT(revoke, unlink, 600)
{
	spinner_try_unlink(&self->s);
}

TEST_F_TIMEOUT(revoke, close, 600)
{
	spinner_try_close(&self->s);
}

TEST_F_TIMEOUT(revoke, end, 600)
{
	spinner_try_end(&self->s);
}

/* All memory: nothing but this, and the owner's own end, takes it back. */
TEST_F_TIMEOUT(revoke, end_all_memory, 600)
{
	struct spinner *s = &self->s;
	unsigned int i;
	int domain;

	for (i = 0; i < s->trials; i++) {
		domain = vm2vm_create_domain_flags(self->p.owner, KVM_VM2VM_DOMAIN_ALL_MEMORY);
		vm2vm_link(self->p.backend, domain, PEER_SLOT, s->link, PEER_OWNER_GPA, 4096, 0);
		spinner_begin(s->loop, s->page[0]);
		vm2vm_end(domain);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
		vm2vm_unlink(self->p.backend, PEER_SLOT);
		close(domain);
	}
}

TEST_F_TIMEOUT(revoke, mmu_notifier, 600)
{
	spinner_try_mmap(&self->s);
}

/* The owner's process unmaps the page, which is a hole until it is back. */
TEST_F_TIMEOUT(revoke, munmap, 600)
{
	spinner_try_munmap(&self->s);
}

/*
 * The owner's process writes to a page of its own that is still the file's, and
 * gets a copy of it; the backend is to follow.
 */
TEST_F_TIMEOUT(revoke, copy_on_write, 600)
{
	struct spinner *s = &self->s;
	uint64_t *mem = self->p.mem;
	unsigned int i;

	WRITE_ONCE(s->loop->readonly, 1);
	spinner_map(s);
	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		TEST_ASSERT(mmap(mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				 MAP_FIXED, s->memfd, 0) == mem, "mmap");
		spinner_begin(s->loop, s->page[0]);
		WRITE_ONCE(mem[2], i);
		spinner_end(s->loop, s->page[0], SPINNER_OLD, i);
	}
}

TEST_F_TIMEOUT(revoke, memslot_delete, 600)
{
	spinner_try_memslot_delete(&self->s);
}

TEST_F_TIMEOUT(revoke, memslot_move, 600)
{
	spinner_try_memslot_move(&self->s);
}

TEST_F_TIMEOUT(revoke, owner_killed, 900)
{
	struct spinner *s = &self->s;
	unsigned int i;
	int domain;
	pid_t pid;

	for (i = 0; i < s->trials; i++) {
		pid = spinner_start_owner(s->memfd, &domain);
		vm2vm_link(self->p.backend, domain, PEER_SLOT, s->link, PEER_IOVA, 4096, 0);
		spinner_begin(s->loop, s->page[0]);
		spinner_kill_owner(pid);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
		vm2vm_unlink(self->p.backend, PEER_SLOT);
		close(domain);
	}
}

TEST_F_TIMEOUT(revoke, unmap_races_fault, 600)
{
	spinner_try_unmap_races_fault(&self->s);
}

TEST_HARNESS_MAIN
