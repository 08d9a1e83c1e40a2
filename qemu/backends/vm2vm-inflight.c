/*
 * vm2vm: memory in which a back-end notes what it has begun
 *
 * Both QEMUs have it, so that it is there when one VM, or the program in the
 * backend's guest, begins anew. This one makes it, and gets it back by
 * SET_INFLIGHT_FD: of whoever connects, so it is looked at.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/memfd.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/virtio/virtio.h"
#include "standard-headers/vm2vm_pci.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-link.h"

/* Of vhost-user's "Inflight I/O tracking" */
#define ALIGNMENT 64
#define SPLIT_HEADER 16
#define SPLIT_DESC 16
#define PACKED_HEADER 32
#define PACKED_DESC 32

static uint64_t queue_size(Vm2vmBackend *b, uint16_t descs)
{
    bool packed = b->features & (1ULL << VIRTIO_F_RING_PACKED);
    uint64_t size = packed ? PACKED_HEADER + PACKED_DESC * descs :
        SPLIT_HEADER + SPLIT_DESC * descs;

    return ROUND_UP(size, ALIGNMENT);
}

int vm2vm_inflight_make(Vm2vmLink *link, Vm2vmPayload *reply)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;
    uint64_t size = queue_size(b, payload->inflight.queue_size) *
        payload->inflight.num_queues;
    Error *err = NULL;
    int fd;

    reply->inflight.num_queues = payload->inflight.num_queues;
    reply->inflight.queue_size = payload->inflight.queue_size;
    size = ROUND_UP(size, qemu_real_host_page_size());
    if (!size || size > VM2VM_PCI_INFLIGHT_BAR_SIZE) {
        return -1;
    }
    fd = qemu_memfd_create("vm2vm-inflight", size, false, 0, F_SEAL_GROW |
                           F_SEAL_SHRINK | F_SEAL_SEAL, &err);
    if (fd < 0) {
        warn_report_err(err);
        return -1;
    }
    reply->inflight.mmap_size = size;
    return fd;
}

void vm2vm_inflight_set(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;
    uint64_t size = payload->inflight.mmap_size;
    struct stat st;

    if (!vm2vm_fd_is(link->parser.fd, VM2VM_FD_MEMORY) ||
        fstat(link->parser.fd, &st)) {
        error_setg(errp, "SET_INFLIGHT_FD with what is not sealed memory");
        return;
    }
    if (payload->inflight.mmap_offset || !size || size > st.st_size ||
        size > VM2VM_PCI_INFLIGHT_BAR_SIZE ||
        size % qemu_real_host_page_size()) {
        error_setg(errp, "SET_INFLIGHT_FD of 0x%" PRIx64 " bytes at 0x%" PRIx64,
                   size, payload->inflight.mmap_offset);
        return;
    }
    if (queue_size(b, payload->inflight.queue_size) *
        payload->inflight.num_queues > size) {
        error_setg(errp, "SET_INFLIGHT_FD of 0x%" PRIx64 " bytes for %u queues "
                   "of %u", size, payload->inflight.num_queues,
                   payload->inflight.queue_size);
        return;
    }
    if (b->domain >= 0) {
        error_setg(errp, "SET_INFLIGHT_FD while the device runs");
        return;
    }
    vm2vm_inflight_drop(link);
    b->inflight = (Vm2vmInflight) {
        .fd = link->parser.fd,
        .size = size,
        .queues = payload->inflight.num_queues,
        .queue_size = payload->inflight.queue_size,
    };
    link->parser.fd = -1;
    vm2vm_backend_tell(b);
}

/* While it is shown there is a domain, so it is not */
void vm2vm_inflight_drop(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    assert(!b->window);
    vm2vm_fd_close_of(link->chr.chr, b->inflight.fd);
    b->inflight = (Vm2vmInflight) { .fd = -1 };
}
