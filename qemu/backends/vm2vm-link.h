/*
 * vm2vm: what the parts of a vm2vm-link object share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BACKENDS_VM2VM_LINK_H
#define BACKENDS_VM2VM_LINK_H

#include "chardev/char-fe.h"
#include "hw/qdev-core.h"
#include "hw/virtio/virtio.h"
#include "qapi/qapi-types-vm2vm.h"
#include "qom/object.h"
#include "system/vm2vm.h"
#include "vm2vm-dma.h"
#include "vm2vm-proto.h"

/* A queue of the owner's device */
typedef struct Vm2vmQueue {
    bool enabled;               /* the rest does not change while it is */
    bool has_addr;
    uint32_t size;
    uint32_t next;
    uint64_t desc;
    uint64_t avail;
    uint64_t used;
    int kick;                   /* eventfds, or -1 */
    int call;
} Vm2vmQueue;

typedef struct Vm2vmOwner {
    DeviceState *dev;           /* property "device", while it is there */
    VirtIODevice *vdev;         /* if that is a virtio device */
    AddressSpace *as;
    DeviceListener listener;
    Notifier machine_done;
    Notifier status_changed;    /* of vdev */
    VMChangeStateEntry *vm_state;
    bool running;               /* the VM: not stopped, but maybe suspended */
    int domain;                 /* made for each peer */
    uint32_t awaits;            /* the request whose answer comes next, or 0 */
    uint32_t peer_queues;
    bool queues_sent;
    Vm2vmDma dma;
} Vm2vmOwner;

/* What the device that shows the window wants to know */
typedef struct Vm2vmBackendOps {
    /* There is another domain now, or none */
    void (*domain)(void *opaque);
    /* The queue is enabled, or is not any more and its eventfds will close */
    void (*queue)(void *opaque, unsigned int q);
    /* Anything else */
    void (*state)(void *opaque);
} Vm2vmBackendOps;

typedef struct Vm2vmBackend {
    uint64_t protocol_features;
    int domain;
    uint64_t features;
    uint32_t device_type;
    uint32_t nr_queues;
    uint32_t status;
    Vm2vmQueue queues[VM2VM_MAX_QUEUES];
    const Vm2vmBackendOps *ops;
    void *opaque;
    const char *device_id;
    /* Statistics, for which the device calls */
    uint64_t refused[2];        /* reads, writes */
    uint64_t shown;
    uint64_t slow_doorbells;
    /* VM2VM_ACCESS_REFUSED */
    int64_t reported;           /* ns */
    uint64_t unreported;
    uint64_t refused_iova;
    bool refused_write;
} Vm2vmBackend;

struct Vm2vmLink {
    Object parent_obj;

    /* Properties */
    bool has_role;
    Vm2vmRole role;
    char *chardev_id;
    char *device_id;
    uint64_t size;
    uint64_t base;
    Vm2vmUnapproved unapproved;

    const char *id;
    bool complete;
    CharBackend chr;
    bool open;                  /* the chardev is connected */
    bool ready;                 /* and whoever is there speaks the protocol */
    uint32_t peers;
    uint32_t dropped;
    Vm2vmParser parser;
    QEMUTimer *timer;           /* until when we want something from the peer */
    const char *waits_for;
    QEMUTimer *drop_timer;
    int64_t last_drop;          /* in milliseconds of QEMU_CLOCK_REALTIME */
    char *drop_reason;

    Vm2vmOwner owner;
    Vm2vmBackend backend;

    QTAILQ_ENTRY(Vm2vmLink) next;
};

/*
 * Send, without waiting: a peer that does not read is dropped. Returns false
 * if that happens. @fd stays the caller's.
 */
bool vm2vm_link_send(Vm2vmLink *link, uint32_t request, uint32_t flags,
                     const Vm2vmPayload *payload, int fd);
/* Drop the peer, a little later. Takes @err. */
void vm2vm_link_drop(Vm2vmLink *link, Error *err);
/* The peer has to do something soon; NULL: it has done it */
void vm2vm_link_wait_for(Vm2vmLink *link, const char *what);
/* The peer speaks the protocol */
void vm2vm_link_ready(Vm2vmLink *link);

/* Of either role: what becomes of a connection, and a message for it */
bool vm2vm_owner_setup(Vm2vmLink *link, Error **errp);
void vm2vm_owner_cleanup(Vm2vmLink *link);
void vm2vm_owner_opened(Vm2vmLink *link);
void vm2vm_owner_closed(Vm2vmLink *link);
void vm2vm_owner_message(Vm2vmLink *link, Error **errp);
Vm2vmQueueInfoList *vm2vm_owner_queues(Vm2vmLink *link);

void vm2vm_backend_init(Vm2vmLink *link);
void vm2vm_backend_opened(Vm2vmLink *link);
void vm2vm_backend_closed(Vm2vmLink *link);
void vm2vm_backend_message(Vm2vmLink *link, Error **errp);
Vm2vmQueueInfoList *vm2vm_backend_queues(Vm2vmLink *link);

/* For the device: there is one for each link. */
bool vm2vm_backend_attach(Vm2vmLink *link, const Vm2vmBackendOps *ops,
                          void *opaque, const char *device_id, Error **errp);
void vm2vm_backend_detach(Vm2vmLink *link);
/* The guest made an access that is not approved */
void vm2vm_backend_refused(Vm2vmLink *link, uint64_t iova, bool write);

#endif
