/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A switch in the backend's guest: frames go from one owner's memory to another's, by
 * plain windows, or by views, of which it is in one at a time.
 *
 * By plain windows it copies a frame once, from window to window.  A view has the
 * windows of one owner only, so there it copies a batch of frames to memory of its own, goes
 * to the other view, and copies them again.
 */
#ifndef SELFTEST_KVM_VM2VM_SWITCH_H
#define SELFTEST_KVM_VM2VM_SWITCH_H

#include "vm2vm_view.h"

#define SWITCH_SLOTS	8
#define SWITCH_SLOT	12288	/* bytes; the first 8 are the frame's length */
#define SWITCH_FRAME	(SWITCH_SLOT - 8)
#define SWITCH_PAGES	(1 + 2 * SWITCH_SLOTS * SWITCH_SLOT / 4096)
#define SWITCH_BATCH	4

/**
 * struct switch_port - an owner's memory, as owner and switch have agreed
 * @sent: frames that the owner has put into @out
 * @taken: how many of them the switch has taken
 * @received: frames that the switch has put into @in
 */
struct switch_port {
	uint64_t sent;
	uint64_t taken;
	uint64_t received;
	uint8_t pad[4096 - 24];
	uint8_t out[SWITCH_SLOTS][SWITCH_SLOT];
	uint8_t in[SWITCH_SLOTS][SWITCH_SLOT];
};

/**
 * struct switch_job - what the guest's switch does, in its memory
 * @from: window of the owner that sends; @to: of the one that gets
 * @from_view: the view of the one; 0: all windows are plain
 * @to_view: of the other
 * @own: memory of its own for a batch, of switch_add_memory()
 * @batch: frames for each change of views, at most SWITCH_BATCH
 * @frames: when this many have gone through it is done
 * @bad: frames whose length made no sense
 * @strays: how many words of the sender's memory it could reach while it was busy with the
 *	other owner, of those that it has tried: one a batch, if @stray
 * @stray: try
 */
struct switch_job {
	uint64_t from;
	uint64_t to;
	uint64_t from_view;
	uint64_t to_view;
	uint64_t own;
	uint64_t batch;
	uint64_t frames;
	uint64_t bad;
	uint64_t strays;
	uint64_t stray;
};

/* The guest's own; the host finds it by addr_gva2hva(). */
extern struct switch_job switch_job;

/* What the guest does: all of switch_job. */
void switch_guest(void);

/* Where the switch of this VM can have frames; not in the program, which others are, too. */
uint64_t switch_add_memory(struct kvm_vm *vm);

/* The owner's memory as a port that sends frames of this length, each of its own content. */
struct switch_port *switch_port_init(struct view_owner *o, uint64_t frames, uint64_t length);

#endif /* SELFTEST_KVM_VM2VM_SWITCH_H */
