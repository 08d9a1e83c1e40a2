/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What runs inside the two VMs of vm2vm_demo, and where things are in them.
 *
 * Each guest is a loop over jobs: its VMM fills in demo_job (in the guest's own
 * copy of this program), runs the vCPU until GUEST_SYNC and reads the results.
 *
 * The backend's guest only loads and stores in its windows, 8 bytes at a time
 * and aligned: if the page is a hole the access is one KVM_EXIT_MMIO.  It never
 * executes there.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_GUEST_H
#define SELFTEST_KVM_VM2VM_DEMO_GUEST_H

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "sha256.h"

#define DEMO_BLOCK		(2ul << 20)	/* a huge page */
#define DEMO_HUGE_SIZE		(16ul << 20)
#define DEMO_HUGE_PAGES		(DEMO_HUGE_SIZE >> 12)	/* of 4 KiB */

/* Guest-physical addresses, the same virtual: the owner's memory. */
#define DEMO_POOL		0x100000000ul
#define DEMO_HUGE		0x200000000ul

/* Bus addresses: the file, the page of the digest right behind it; huge pages. */
#define DEMO_FILE_IOVA		0x40000000ul
#define DEMO_HUGE_IOVA		0x80000000ul

/* Guest-physical addresses, the same virtual: the windows of the backend. */
#define DEMO_WINDOW		0x140000000ul
#define DEMO_HUGE_WINDOW	0x180000000ul

/* Virtual: the backend's own memory a second time, from physical address 0. */
#define DEMO_OWN		0x200000000ul

enum demo_op {
	DEMO_NOP,
	/* The owner's guest */
	DEMO_OWNER_SUM,		/* result: checksum of the file in its order */
	DEMO_OWNER_DIGEST,	/* digest: what the backend wrote */
	/* The backend's guest */
	DEMO_TOUCH_OWN,		/* every page of its own memory */
	DEMO_HASH,		/* digest: of the file in the window */
	DEMO_HASH_EVEN,		/* digest: of the pages 0, 2, 4, ... */
	DEMO_PUT_DIGEST,	/* digest: to the page behind the file */
	DEMO_ACCESS,		/* accesses: to do; result: those done */
	DEMO_READ_HUGE,		/* result: 4 KiB pages with the right mark */
	DEMO_SCAN,		/* result: pages that read as all-ones */
	DEMO_POKE,		/* store 0 where it is not approved */
	DEMO_SELF,		/* digest: of own memory */
};

extern struct demo_job {
	u64 op;
	u64 pages;		/* of the file */
	u64 bytes;		/* of the file */
	u64 table_pages;	/* owner: of the table of places */
	u64 own_pages;	/* backend: of its own memory */
	u64 accesses;
	u64 base, first, step, end;	/* a walk in pages */
	u64 result;
	struct sha256_digest digest;
} demo_job;

/* The word in front of each 4 KiB page of the huge pages. */
static inline u64 demo_huge_mark(u64 page)
{
	return 0x766d32766d000000ul + page;
}

/* A checksum in which the order counts. */
u64 demo_sum_page(u64 sum, const u64 *page);

/* What the owner's vCPU runs. */
void demo_owner_guest(void);

/* Also computed by the launcher, to know what is right. */
void demo_self(struct sha256_digest *digest);

/* What the backend's vCPU runs. */
void demo_backend_guest(void);

#endif /* SELFTEST_KVM_VM2VM_DEMO_GUEST_H */
