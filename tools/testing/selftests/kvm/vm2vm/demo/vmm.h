/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Plumbing of vm2vm_demo: the messages between its three processes, and what
 * its two VMMs have in common: running a job in the guest, answering MMIO, and
 * reading the vCPU's statistics.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_VMM_H
#define SELFTEST_KVM_VM2VM_DEMO_VMM_H

#include "vm2vm.h"
#include "guest.h"

/* Counters of a vCPU, as KVM keeps them. */
enum demo_stat {
	STAT_EXITS,
	STAT_IRQ_EXITS,
	STAT_PF_TAKEN,
	STAT_PF_FIXED,
	NR_STATS,
};

/* MMIO exits of one job; [1]: to pages with an odd number in their window. */
struct demo_mmio {
	u64 reads[2];
	u64 writes[2];
};

enum demo_cmd {
	CMD_START,
	/* To the owner */
	CMD_DIGEST,
	CMD_REVOKE,
	CMD_CHECK,
	/* To the backend */
	CMD_HASH,
	CMD_PUT_DIGEST,
	CMD_ACCESS,
	CMD_READ_HUGE,
	CMD_SCAN,
	CMD_SCAN_HUGE,
	CMD_POKE,
	CMD_HASH_EVEN,
	CMD_SELF,
	CMD_QUIT,
};

/*
 * A request to the owner or the backend, and its answer; the owner also
 * describes its domain to the backend with one.
 */
struct demo_msg {
	u64 cmd;
	u64 pages;
	u64 bytes;
	u64 pool;		/* owner: pages over which the file is scattered */
	u64 neighbours;	/* owner: pages that stayed behind their predecessor */
	u64 maps;		/* owner: calls of KVM_VM2VM_MAP or UNMAP */
	u64 huge_bytes;	/* owner: memory that really is huge pages */
	u64 refused;	/* backend: tries to change the domain, all EPERM */
	u64 first, step;	/* pages to walk over */
	u64 result;
	u64 stat[NR_STATS];	/* what the job added */
	struct demo_mmio mmio;
	struct sha256_digest digest;
};

/* fd -1: no descriptor goes along. */
void demo_send(int sock, const struct demo_msg *msg, int fd);

/*
 * False: the other side is gone.  *fd is the descriptor that came along, or -1;
 * fd may be NULL.
 */
bool demo_recv(int sock, struct demo_msg *msg, int *fd);

/* A VM with one vCPU, and what the last job did. */
struct demo_vmm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u64 stat[NR_STATS];
	struct demo_mmio mmio;
};

/* Does demo_job in the guest; demo_job, vmm->stat and vmm->mmio are the result. */
void demo_run_job(struct demo_vmm *vmm, enum demo_op op);

#endif /* SELFTEST_KVM_VM2VM_DEMO_VMM_H */
