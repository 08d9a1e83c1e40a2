/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Revocation with the backend's vCPU in its guest.
 *
 * The guest reads and writes one page of its window in a loop that never exits.  In
 * each trial the approval, or the page, is taken away in one of the ways that there
 * are.  When that has returned, the page is given another value through a mapping of
 * the owner: the guest must never see it, and nothing that it writes may arrive.
 *
 * Emulators flush their TLB at every VM entry and exit, so a translation that was not
 * flushed shows only as long as the vCPU stays in its guest.  That is why the loop has
 * no exit, and why the value is written at once.
 */
#ifndef SELFTEST_KVM_VM2VM_SPIN_H
#define SELFTEST_KVM_VM2VM_SPIN_H

#include <pthread.h>

#include "vm2vm_peer.h"

#define SPINNER_OLD	0x01d01d01d01d01d0ull
#define SPINNER_NEW	0x2222222222222222ull
#define SPINNER_CANARY	0xdeadbeefdeadbeefull
#define SPINNER_HOLE	(~0ull)

/* Two words of the page: the guest reads one, and writes the other. */
#define SPINNER_READ	0
#define SPINNER_WRITE	1

/**
 * struct spinner_loop - between the guest and the test; in the guest's own memory
 * @count: passes of the loop
 * @last: what was read last
 * @canary: how often the canary was read
 * @readonly: the guest does not write
 * @stop: end
 */
struct spinner_loop {
	uint64_t count;
	uint64_t last;
	uint64_t canary;
	uint64_t readonly;
	uint64_t stop;
};

/* How many seconds a guest may take to get on, before the test fails. */
extern unsigned int spinner_patience;

/* The loop, on the page at PEER_WINDOW. */
void spinner_guest(void);

/* Wait until the guest has been around its loop @n times from now on. */
void spinner_wait(struct spinner_loop *loop, uint64_t n);

/* Wait until the guest has seen and cleared a word. */
void spinner_wait_clear(uint64_t *word);

/* Wait until the guest reads @val. */
void spinner_wait_for(struct spinner_loop *loop, uint64_t val);

/* Let the guest reach a page that has the value SPINNER_OLD, without exits. */
void spinner_begin(struct spinner_loop *loop, uint64_t *page);

/*
 * The page is revoked: put the canary into it, and nothing of the guest may come to it
 * or from it any more.  The guest reads @expect soon.
 */
void spinner_check(struct spinner_loop *loop, uint64_t *page, uint64_t expect,
		   unsigned int trial);

/* The same, and take the canary out again: the next trial may approve the page at once. */
void spinner_end(struct spinner_loop *loop, uint64_t *page, uint64_t expect,
		 unsigned int trial);

/* A file of two pages, which are mapped at @page; returns its descriptor. */
int spinner_memfd(uint64_t *page[2]);

/* Map a page of the file, anywhere or in the place of another. */
void *spinner_map_page(int memfd, unsigned int page, void *where);

/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
void spinner_no_fork(struct kvm_vm *vm);

/*
 * An owner in a process of its own, which does nothing but live.  Its memory is the
 * first page of the file, all of it approved, and its domain comes here.
 */
pid_t spinner_start_owner(int memfd, int *domain);

/* Kill it, and wait until it is gone. */
void spinner_kill_owner(pid_t pid);

/**
 * struct spinner - a pair, whose guest spins on the one page of its window
 * @p: the pair; p->mem is the owner's mapping of one of the pages
 * @link: gpa of the window
 * @loop: what the guest tells
 * @memfd: two pages
 * @page: them, in a mapping of the test's own
 * @thread: runs the vCPU
 * @trials: how often something is done
 */
struct spinner {
	struct peer *p;
	uint64_t link;
	struct spinner_loop *loop;
	int memfd;
	uint64_t *page[2];
	pthread_t thread;
	unsigned int trials;
};

/* For a pair with one page, whose vCPU is to run spinner_guest(), and does so from now on. */
void spinner_start(struct spinner *s, struct peer *p, uint64_t link, unsigned int trials);

void spinner_stop(struct spinner *s);

/* The one page: approve it, and make the window. */
void spinner_map(struct spinner *s);
void spinner_link(struct spinner *s);

/* Trials of a way to take the page away; nothing is shared before. */
void spinner_try_unmap(struct spinner *s);
void spinner_try_unlink(struct spinner *s);
void spinner_try_close(struct spinner *s);
void spinner_try_end(struct spinner *s);
void spinner_try_munmap(struct spinner *s);
void spinner_try_memslot_delete(struct spinner *s);
void spinner_try_memslot_move(struct spinner *s);

/* The owner's process maps another page in the place of the one it had. */
void spinner_try_mmap(struct spinner *s);

/*
 * A fault that is under way while the approval goes: the guest takes one on every
 * pass, as the page is approved and revoked without a pause.
 */
void spinner_try_unmap_races_fault(struct spinner *s);

#endif /* SELFTEST_KVM_VM2VM_SPIN_H */
