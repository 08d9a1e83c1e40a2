// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtqueue of the peer's, printed
 */
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "vm2vm.h"
#include "vm2vm_dev.h"
#include "vm2vm_ring.h"

int cmd_queue(uint32_t index)
{
	uint32_t at = VM2VM_PCI_QUEUE(index), i;
	struct ring r = { .index = index };
	struct vring_used_elem e;
	struct vring_desc d;
	const char *wrong;

	if (!reg32(at + VM2VM_PCI_QUEUE_STATE))
		die("queue %u is not enabled", index);
	r.size = reg32(at + VM2VM_PCI_QUEUE_SIZE);
	r.desc = reg64(at + VM2VM_PCI_QUEUE_DESC);
	r.avail = reg64(at + VM2VM_PCI_QUEUE_AVAIL);
	r.used = reg64(at + VM2VM_PCI_QUEUE_USED);
	wrong = ring_load(&r, reg32(at + VM2VM_PCI_QUEUE_NEXT));
	if (wrong)
		die("queue %u %s", index, wrong);
	printf("size %u\n", r.size);
	printf("next %u\n", r.next);
	printf("desc 0x%" PRIx64 "\n", r.desc);
	printf("avail 0x%" PRIx64 "\n", r.avail);
	printf("used 0x%" PRIx64 "\n", r.used);
	printf("avail.flags 0x%x\n", window16(r.avail));
	printf("avail.idx %u\n", ring_avail_idx(&r));
	printf("used.flags 0x%x\n", window16(r.used));
	printf("used.idx %u\n", ring_used_idx(&r));
	for (i = 0; i < r.size; i++) {
		window_read(r.desc + i * sizeof(d), &d, sizeof(d));
		printf("desc%u 0x%" PRIx64 " %u 0x%x %u\n", i, (uint64_t)d.addr, d.len, d.flags,
		       d.next);
	}
	for (i = 0; i < r.size; i++)
		printf("avail%u %u\n", i,
		       window16(r.avail + offsetof(struct vring_avail, ring) + i * 2));
	for (i = 0; i < r.size; i++) {
		window_read(r.used + offsetof(struct vring_used, ring) + i * sizeof(e), &e,
			    sizeof(e));
		printf("used%u %u %u\n", i, e.id, e.len);
	}
	return 0;
}
