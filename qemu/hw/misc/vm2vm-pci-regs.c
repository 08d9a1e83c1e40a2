/*
 * vm2vm: the registers of the PCI device
 *
 * standard-headers/vm2vm_pci.h says what each is. Whatever a guest writes is
 * allowed: what has no meaning has no effect.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/virtio/virtio.h"
#include "vm2vm-pci.h"

QEMU_BUILD_BUG_ON(VM2VM_PCI_MAX_QUEUES != VM2VM_MAX_QUEUES);
QEMU_BUILD_BUG_ON(VM2VM_PCI_CONFIG_MAX_SIZE != VM2VM_MAX_CONFIG);
QEMU_BUILD_BUG_ON(VM2VM_PCI_PROTOCOL_RARP != VM2VM_PROTOCOL_F_RARP ||
                  VM2VM_PCI_PROTOCOL_MTU != VM2VM_PROTOCOL_F_NET_MTU ||
                  VM2VM_PCI_PROTOCOL_CONFIG != VM2VM_PROTOCOL_F_CONFIG ||
                  VM2VM_PCI_PROTOCOL_INFLIGHT_SHMFD !=
                  VM2VM_PROTOCOL_F_INFLIGHT_SHMFD ||
                  VM2VM_PCI_PROTOCOL_RESET_DEVICE !=
                  VM2VM_PROTOCOL_F_RESET_DEVICE);

#define QUEUE_STRIDE (VM2VM_PCI_QUEUE(1) - VM2VM_PCI_QUEUE(0))

static uint32_t state(Vm2vmPci *s)
{
    Vm2vmBackend *b = vm2vm_pci_backend(s);
    uint32_t state = 0;

    if (s->link->ready) {
        state |= VM2VM_PCI_STATE_CONNECTED;
    }
    if (b->window && b->shown) {
        state |= VM2VM_PCI_STATE_WINDOW;
    }
    if (b->domain >= 0) {
        state |= VM2VM_PCI_STATE_DOMAIN;
    }
    if (b->status & VIRTIO_CONFIG_S_DRIVER_OK) {
        state |= VM2VM_PCI_STATE_DRIVER_OK;
    }
    return state;
}

static bool is_queue(hwaddr addr)
{
    return addr >= VM2VM_PCI_QUEUE(0) &&
        addr < VM2VM_PCI_QUEUE(VM2VM_PCI_MAX_QUEUES);
}

static uint64_t queue_read(Vm2vmPci *s, unsigned int q, hwaddr addr)
{
    Vm2vmQueue *queue = &vm2vm_pci_backend(s)->queues[q];

    if (queue->state == VM2VM_QUEUE_OFF) {
        return 0;
    }
    switch (addr) {
    case VM2VM_PCI_QUEUE_STATE:
        return queue->state == VM2VM_QUEUE_ENABLED ? VM2VM_PCI_QUEUE_ENABLED :
            VM2VM_PCI_QUEUE_STOPPING;
    case VM2VM_PCI_QUEUE_SIZE:
        return queue->size;
    case VM2VM_PCI_QUEUE_NEXT:
        return queue->next;
    case VM2VM_PCI_QUEUE_DESC:
        return queue->desc;
    case VM2VM_PCI_QUEUE_AVAIL:
        return queue->avail;
    case VM2VM_PCI_QUEUE_USED:
        return queue->used;
    case VM2VM_PCI_QUEUE_KICKS:
        return vm2vm_pci_kicks(s, q);
    }
    return 0;
}

/* What the guest has registered */
static uint64_t offer_read(Vm2vmBackend *b, hwaddr addr)
{
    switch (addr) {
    case VM2VM_PCI_OFFER_FEATURES:
        return b->offer.features;
    case VM2VM_PCI_OFFER_PROTOCOL:
        return b->offer.protocol;
    case VM2VM_PCI_OFFER_DEVICE_ID:
        return b->offer.device_type;
    case VM2VM_PCI_OFFER_QUEUES:
        return b->offer.queues;
    case VM2VM_PCI_OFFER_CONFIG_SIZE:
        return b->offer.config_size;
    case VM2VM_PCI_CONFIG_GENERATION:
        return b->config_generation;
    case VM2VM_PCI_ACK:
        return b->ack;
    case VM2VM_PCI_CONTROL:
        return b->registered ? VM2VM_PCI_CONTROL_READY : 0;
    }
    return 0;
}

/* What the peer has told */
static uint64_t peer_read(Vm2vmBackend *b, hwaddr addr)
{
    switch (addr) {
    case VM2VM_PCI_DEVICE_STATUS:
        return b->status;
    case VM2VM_PCI_FEATURES:
        return b->features & ~VM2VM_F_PROTOCOL_FEATURES;
    case VM2VM_PCI_PROTOCOL_FEATURES:
        return b->protocol_features;
    case VM2VM_PCI_NR_QUEUES:
        return b->nr_queues;
    case VM2VM_PCI_DEVICE_TYPE:
        return b->device_type;
    case VM2VM_PCI_INFLIGHT_QUEUES:
        return b->inflight.queues;
    case VM2VM_PCI_INFLIGHT_QUEUE_SIZE:
        return b->inflight.queue_size;
    case VM2VM_PCI_INFLIGHT_SIZE:
        return b->inflight.size;
    case VM2VM_PCI_MTU:
        return b->mtu;
    case VM2VM_PCI_RARP_COUNT:
        return b->rarps;
    case VM2VM_PCI_RARP_MAC:
        return b->rarp_mac;
    }
    return offer_read(b, addr);
}

static uint32_t unapproved(Vm2vmPci *s)
{
    QEMU_BUILD_BUG_ON((int)VM2VM_UNAPPROVED_FILL != VM2VM_PCI_UNAPPROVED_FILL);
    QEMU_BUILD_BUG_ON((int)VM2VM_UNAPPROVED_REPORT !=
                      VM2VM_PCI_UNAPPROVED_REPORT);
    QEMU_BUILD_BUG_ON((int)VM2VM_UNAPPROVED_STOP != VM2VM_PCI_UNAPPROVED_STOP);
    return s->link->unapproved;
}

static uint64_t id_read(Vm2vmPci *s, hwaddr offset)
{
    size_t len = strlen(s->link->id);
    uint64_t value = 0;

    if (offset < len) {
        memcpy(&value, s->link->id + offset, MIN(len - offset, sizeof(value)));
    }
    return le64_to_cpu(value);
}

/* The register at a multiple of 8, or one of 4 bytes */
static uint64_t register_value(Vm2vmPci *s, hwaddr addr)
{
    if (is_queue(addr)) {
        addr -= VM2VM_PCI_QUEUE(0);
        return queue_read(s, addr / QUEUE_STRIDE, addr % QUEUE_STRIDE);
    }
    if (addr >= VM2VM_PCI_ID && addr < VM2VM_PCI_ID + VM2VM_PCI_ID_SIZE) {
        return id_read(s, addr - VM2VM_PCI_ID);
    }
    switch (addr) {
    case VM2VM_PCI_MAGIC:
        return VM2VM_PCI_MAGIC_VALUE;
    case VM2VM_PCI_VERSION:
        return VM2VM_PCI_VERSION_VALUE;
    case VM2VM_PCI_STATE:
        return state(s);
    case VM2VM_PCI_EPOCH:
        return vm2vm_pci_backend(s)->epoch;
    case VM2VM_PCI_SIZE:
        return s->link->size;
    case VM2VM_PCI_BASE:
        return s->link->base;
    case VM2VM_PCI_DOORBELL_OFFSET:
        return VM2VM_PCI_DOORBELL_OFFSET_VALUE;
    case VM2VM_PCI_REFUSED_READS:
        return s->refused[0];
    case VM2VM_PCI_REFUSED_WRITES:
        return s->refused[1];
    case VM2VM_PCI_PEERS:
        return s->link->peers;
    case VM2VM_PCI_UNAPPROVED:
        return unapproved(s);
    }
    return peer_read(vm2vm_pci_backend(s), addr);
}

static bool is_64_bit(hwaddr addr)
{
    if (is_queue(addr)) {
        addr = (addr - VM2VM_PCI_QUEUE(0)) % QUEUE_STRIDE;
        return addr == VM2VM_PCI_QUEUE_DESC || addr == VM2VM_PCI_QUEUE_AVAIL ||
            addr == VM2VM_PCI_QUEUE_USED;
    }
    return (addr >= VM2VM_PCI_SIZE && addr < VM2VM_PCI_ACK) ||
        (addr >= VM2VM_PCI_FEATURES && addr < VM2VM_PCI_OFFER_DEVICE_ID) ||
        addr == VM2VM_PCI_INFLIGHT_SIZE || addr == VM2VM_PCI_RARP_MAC ||
        (addr >= VM2VM_PCI_ID && addr < VM2VM_PCI_ID + VM2VM_PCI_ID_SIZE);
}

static bool is_config(hwaddr addr)
{
    return addr >= VM2VM_PCI_CONFIG &&
        addr < VM2VM_PCI_CONFIG + VM2VM_PCI_CONFIG_MAX_SIZE;
}

static uint8_t *config_at(Vm2vmPci *s, hwaddr addr)
{
    return &vm2vm_pci_backend(s)->config[addr - VM2VM_PCI_CONFIG];
}

static uint64_t registers_read(void *opaque, hwaddr addr, unsigned int size)
{
    Vm2vmPci *s = opaque;
    hwaddr whole = addr & ~7ULL;

    if (is_config(addr)) {
        return ldn_le_p(config_at(s, addr), size);
    }
    if (size < 4) {
        return 0;
    }
    if (is_64_bit(whole)) {
        return register_value(s, whole) >> (8 * (addr - whole));
    }
    if (size == 8) {
        return (register_value(s, addr) & UINT32_MAX) |
            register_value(s, addr + 4) << 32;
    }
    return register_value(s, addr);
}

/* Only as long as nobody is answered from it */
static void offer_write(Vm2vmBackend *b, hwaddr addr, uint32_t value)
{
    Vm2vmOffer *o = &b->offer;

    if (b->registered) {
        return;
    }
    switch (addr) {
    case VM2VM_PCI_OFFER_FEATURES:
    case VM2VM_PCI_OFFER_FEATURES + 4:
        o->features = deposit64(o->features, 8 * (addr & 4), 32, value);
        break;
    case VM2VM_PCI_OFFER_PROTOCOL:
    case VM2VM_PCI_OFFER_PROTOCOL + 4:
        o->protocol = deposit64(o->protocol, 8 * (addr & 4), 32, value);
        break;
    case VM2VM_PCI_OFFER_DEVICE_ID:
        o->device_type = value;
        break;
    case VM2VM_PCI_OFFER_QUEUES:
        if (value && value <= VM2VM_PCI_MAX_QUEUES) {
            o->queues = value;
        }
        break;
    case VM2VM_PCI_OFFER_CONFIG_SIZE:
        if (value <= VM2VM_PCI_CONFIG_MAX_SIZE) {
            o->config_size = value;
        }
        break;
    }
}

static void write32(Vm2vmPci *s, hwaddr addr, uint32_t value)
{
    unsigned int q;

    if (is_queue(addr)) {
        q = (addr - VM2VM_PCI_QUEUE(0)) / QUEUE_STRIDE;
        if (addr == VM2VM_PCI_QUEUE(q) + VM2VM_PCI_QUEUE_STOPPED) {
            vm2vm_backend_stopped(s->link, q, value);
        }
        return;
    }
    switch (addr) {
    case VM2VM_PCI_ACK:
        vm2vm_backend_ack(s->link, value);
        break;
    case VM2VM_PCI_CONTROL:
        vm2vm_backend_register(s->link, value & VM2VM_PCI_CONTROL_READY);
        break;
    case VM2VM_PCI_CONFIG_CHANGED:
        vm2vm_channel_config_changed(s->link);
        break;
    default:
        offer_write(vm2vm_pci_backend(s), addr, value);
    }
}

static void registers_write(void *opaque, hwaddr addr, uint64_t value,
                            unsigned int size)
{
    Vm2vmPci *s = opaque;

    if (is_config(addr)) {
        stn_le_p(config_at(s, addr), size, value);
    } else if (size >= 4) {
        write32(s, addr, value);
        if (size == 8) {
            write32(s, addr + 4, value >> 32);
        }
    }
}

const MemoryRegionOps vm2vm_pci_register_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};
