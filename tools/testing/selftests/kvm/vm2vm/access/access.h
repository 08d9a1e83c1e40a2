/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_access_test: an owner, and a backend with a device whose guest has KVM do its
 * accesses.
 */
#ifndef SELFTEST_KVM_VM2VM_ACCESS_ACCESS_H
#define SELFTEST_KVM_VM2VM_ACCESS_ACCESS_H

#include "vm2vm_access.h"
#include "vm2vm_peer.h"

#define PAGES	8
#define SIZE	(PAGES * 4096)
#define HOLE	(~0ull)
#define VALUE	0x1122334455667788ull
#define OTHER	0x99aabbccddeeff00ull

/* What the vCPU runs: does what access_cmd says, again and again. */
void access_guest(void);

/**
 * struct access - an owner and a backend, with a device
 * @p: the pair
 * @cmd: the guest's command
 * @dev: what is in the device
 * @port: what its port got last
 * @dev_exits: number of accesses to it
 * @holes: number of bytes that were accessed in holes of the window
 * @last: where the last of these was
 * @patient: what did not come in time is accessed again
 */
struct access {
	struct peer p;
	struct access_cmd *cmd;
	uint8_t dev[DEV_SIZE];
	uint32_t port;
	unsigned int dev_exits;
	unsigned int holes;
	uint64_t last;
	bool patient;
};

/* @guest is what the vCPU runs; the window is still to be linked. */
void access_init(struct access *a, size_t size, void *guest);

/* Answer an exit for the device, or for a hole. */
void access_mmio(struct access *a);

/* Run the guest until it has done its command; returns 0 or the exit's reason. */
int access_run(struct access *a);

/* Have the guest do this; returns what access_run() does. */
int __access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
		uint64_t val);

void access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
	       uint64_t val);

/*
 * A word of the window, as KVM reads and writes it for the guest.  The guest may read
 * it by itself before.
 */
uint64_t access_read(struct access *a, uint64_t offset);

void access_write(struct access *a, uint64_t offset, uint64_t val);

/* Half a word, as KVM reads it before anybody else. */
uint32_t access_out(struct access *a, uint64_t offset);

/* The pages of the window are the owner's backwards. */
uint64_t owner_offset(uint64_t offset);

/* Approve each page by itself, as owner_offset() has it. */
void approve(struct peer *p, uint32_t flags);

/* Likewise, and link all of it. */
void share(struct peer *p, uint32_t map_flags, uint32_t link_flags);

/* Whether the owner's memory is what the model says, all of it. */
bool memory_is(struct peer *p, const uint8_t *model);

/* Where the owner has what the window shows at @offset. */
uint64_t *word_at(struct peer *p, uint64_t offset);

/* Bytes that tell where they are: in the owner's memory, as in @model, and in the device. */
void access_fill(struct access *a, uint8_t *model);

#endif /* SELFTEST_KVM_VM2VM_ACCESS_ACCESS_H */
