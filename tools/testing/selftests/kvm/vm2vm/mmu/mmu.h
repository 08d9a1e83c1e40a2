/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_mmu_test: a backend whose window is used by its guest, or by a guest of
 * its guest (L2), with and without nested page tables.
 */
#ifndef SELFTEST_KVM_VM2VM_MMU_H
#define SELFTEST_KVM_VM2VM_MMU_H

#include "vm2vm_peer.h"

#include "svm_util.h"
#include "vmx.h"

/*
 * Who accesses the window: the backend's guest; an L2 guest without nested paging;
 * one with, its window in entries of 1 GiB, or in entries of 4 KiB that are not an
 * identity.
 */
enum mmu_who { MMU_L1, MMU_L2, MMU_L2_1G, MMU_L2_4K };

/**
 * struct mmu - an owner, and a backend whose guest is one of enum mmu_who
 * @p: the pair
 * @who: the guest
 * @link: gpa of the window in the backend; in the guest it is PEER_WINDOW
 * @npt: gpa of the nested page table's root, of an SVM guest
 * @vmx: the nested guest's pages, of a VMX guest
 * @exit: why the nested guest ended, in the backend's memory
 */
struct mmu {
	struct peer p;
	enum mmu_who who;
	uint64_t link;
	uint64_t npt;
	struct vmx_pages *vmx;
	struct mmu_exit *exit;
};

/* Why L2 went back to L1; in L1's memory. */
struct mmu_exit {
	uint64_t code;		/* what the CPU says */
	uint64_t gpa;		/* of a violation of the nested page tables */
	uint64_t vector;	/* of an exception, of L1 or L2, that mmu_exception() handled */
	uint64_t addr;		/* of the page fault among those */
	uint64_t count;		/* of these exceptions */
};

/* The size of an owner, if a test does not say otherwise. */
#define MMU_PAGES	16

/* An exception that is expected; the guest does not go on. */
void mmu_exception(struct ex_regs *regs);

#define MMU_L2_STACK	512

/* Why there can be no guest such as this, or NULL. */
const char *mmu_lacks(enum mmu_who who);

/*
 * An owner with @size of 4 KiB pages, and a backend in which @guest is run as
 * @who; it has no window yet.
 */
void mmu_init(struct mmu *m, enum mmu_who who, size_t size, void *guest);

/*
 * Give the guest a window of @size, in all the page tables that it goes through:
 * those of the guest in pages of @level.
 */
void mmu_map_window(struct mmu *m, uint64_t size, int level);

/* Make the window without approving anything. */
void mmu_link(struct mmu *m, uint32_t flags, int level);

static inline void mmu_approve(struct mmu *m, uint32_t flags)
{
	vm2vm_map(m->p.domain, PEER_IOVA, PEER_OWNER_GPA, m->p.size, flags);
}

#endif /* SELFTEST_KVM_VM2VM_MMU_H */
